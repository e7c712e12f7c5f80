"""Latency of dynamic bundles, compared with static ones at the same size.

    python benchmarks/dynamic_latency.py [--families fcn psanet …] [--target onnxruntime] [--size HxW]
                                         [--threads 2] [--repeat 15] [--json FILE]

Each family is compiled twice in a process of its own: static at the config's crop size (or --size), and dynamic. Both
bundles run on the same noise in turns, so that other load affects both equally. A pause before each run lets the
threads of the other engine go to sleep. The script prints the median of each after two warm-up runs, and at the end the
median ratio over all families. --json saves the rows after each family; families that the file has are not run again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from segc.runtime.engine import Engine
from segc.support_matrix.families import FAMILIES

WARM_UP = 2
PAUSE = 0.2  # seconds: ONNX Runtime's threads spin for a while after a run


@dataclass(frozen=True)
class Row:
    """Median milliseconds for one image, and the number of nodes of both graphs. failure: why there are no figures."""

    family: str
    size: str
    static_ms: float = 0.0
    dynamic_ms: float = 0.0
    static_nodes: int = 0
    dynamic_nodes: int = 0
    failure: str = ""

    @property
    def ratio(self) -> float:
        """The dynamic time divided by the static time."""
        return self.dynamic_ms / self.static_ms

    def line(self) -> str:
        """The row as Markdown."""
        if self.failure:
            return f"| {self.family} | {self.size} | {self.failure} | | | |"
        return (
            f"| {self.family} | {self.size} | {self.static_ms:.1f} | {self.dynamic_ms:.1f} | {self.ratio:.2f} "
            f"| {self.static_nodes}, {self.dynamic_nodes} |"
        )


def measure(family: str, target: str, size: tuple[int, int] | None, threads: int, repeat: int) -> Row:
    """Compile both bundles, and run them in turns."""
    import torch

    from segc.commands.compile import compile_request
    from segc.compilation.cache import CompileCache
    from segc.compilation.request import Request
    from segc.runtime.engine import load

    torch.set_num_threads(threads)
    cache, source = CompileCache(), FAMILIES[family]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        static = compile_request(
            Request(source, target, size, output="logits", mode="whole", verify=False, out=folder / "static"),
            cache=cache,
        )
        _, channels, height, width = (side or 0 for side in static.manifest.input.shape)
        dynamic = compile_request(
            Request(
                source, target, dynamic=True, trace_shape=(height, width), output="logits", mode="whole",
                verify=False, out=folder / "dynamic",
            ),
            cache=cache,
        )  # fmt: skip
        engines = [load(bundle.path, threads=threads) for bundle in (static, dynamic)]
        x = np.random.default_rng(0).standard_normal((1, channels, height, width)).astype(np.float32)
        medians = take_turns(engines, x, repeat)
        nodes = [sum(bundle.report["ops"]["after"].values()) for bundle in (static, dynamic)]
    return Row(family, f"{height}x{width}", medians[0], medians[1], nodes[0], nodes[1])


def take_turns(engines: Sequence[Engine], x: np.ndarray, repeat: int) -> list[float]:
    """The median milliseconds of each engine; the engines run in turns."""
    seconds: list[list[float]] = [[] for _ in engines]
    for _ in range(WARM_UP + repeat):
        for engine, found in zip(engines, seconds, strict=True):
            time.sleep(PAUSE)
            start = time.perf_counter()
            engine.run(x)
            found.append(time.perf_counter() - start)
    return [statistics.median(found[WARM_UP:]) * 1000 for found in seconds]


def isolated(family: str, args: argparse.Namespace) -> Row:
    """Call `measure` in a fresh process."""
    size = tuple(map(int, args.size.split("x"))) if args.size else None
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(measure, family, args.target, size, args.threads, args.repeat).result()  # type: ignore[arg-type]
        except Exception as error:  # a crash fails one family only
            return Row(family, args.size or "", failure=f"{type(error).__name__}: {error}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", default=[*FAMILIES], choices=[*FAMILIES], metavar="F")
    parser.add_argument("--target", default="onnxruntime")
    parser.add_argument("--size", metavar="HxW", help="default: the config's crop size")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--json", type=Path, help="save the rows here")
    args = parser.parse_args()
    rows = [Row(**row) for row in json.loads(args.json.read_text())] if args.json and args.json.exists() else []
    print("| family | size | static ms | dynamic ms | ratio | nodes |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        print(row.line())
    for family in [family for family in args.families if family not in {row.family for row in rows}]:
        rows.append(isolated(family, args))
        print(rows[-1].line(), flush=True)
        if args.json:
            args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    ratios = [row.ratio for row in rows if not row.failure]
    if ratios:
        print(f"median ratio {statistics.median(ratios):.3f}, largest {max(ratios):.2f}, {len(ratios)} of {len(rows)}")


if __name__ == "__main__":
    main()
