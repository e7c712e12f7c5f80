"""Accuracy of dynamic bundles at sizes and batches other than the traced one, compared with eager PyTorch.

    python benchmarks/dynamic_sizes.py [--families fcn psanet …] [--targets onnxruntime openvino]
                                       [--sizes 256x256 384x640 513x769] [--batches 1 2] [--trace HxW] [--json FILE]

Each family is compiled once with `--dynamic`, in a process of its own, traced at the config's crop size or at --trace.
The bundle then runs at each size on noise and a photograph: separately at batch 1, together in larger batches. A size
that the bundle does not take is rounded up to the next one that it declares. "plain" is `torch.onnx.export(dynamo=True,
dynamic_shapes=…)` of the same unmodified model in the same runtime at batch 1: its error, or a dash if it does not
export or run. Models that select points by top-k (PointRend) are judged by pixels. --json saves the rows after each
family; families that the file has are not run again. The exit code is 1 if a row misses the limits: relative error
1.5e-3, 99.9 % equal pixels, and every differing pixel a near tie (margin / error at most 2).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from segc.parity.metrics import Case
from segc.support_matrix.families import FAMILIES

SIZES, BATCHES = ("256x256", "384x640", "513x769"), (1, 2)
ERROR, AGREEMENT, MARGIN = 1.5e-3, 0.999, 2.0
Run = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Row:
    """The worst figures over the inputs at one size and batch. failure: why there are none. plain_error: see above."""

    family: str
    target: str
    size: str
    batch: int
    error: float | None = None
    agreement: float | None = None
    margin_ratio: float | None = None
    plain_error: float | None = None
    by_pixels: bool = False
    failure: str = ""

    @property
    def ok(self) -> bool:
        """Whether the row is within the limits."""
        if self.failure or self.error is None or self.agreement is None:
            return False
        close = self.by_pixels or self.error <= ERROR
        return close and self.agreement >= AGREEMENT and (self.margin_ratio or 0) <= MARGIN

    def line(self) -> str:
        """The row as Markdown."""
        if self.error is None:
            return f"| {self.family} | {self.target} | {self.size} | {self.batch} | {self.failure} | | | | |"
        margin = "-" if self.margin_ratio is None else f"{self.margin_ratio:.2f}"
        plain = "-" if self.plain_error is None else f"{self.plain_error:.1e}"
        return (
            f"| {self.family} | {self.target} | {self.size} | {self.batch} | {self.error:.1e} | {plain} "
            f"| {self.agreement:.4%} | {margin} | {'ok' if self.ok else 'MISSED'} |"
        )


@dataclass(frozen=True)
class Settings:
    """What is measured for every family."""

    targets: tuple[str, ...]
    sizes: tuple[str, ...]
    batches: tuple[int, ...]
    trace: str | None
    threads: int


def measure(family: str, settings: Settings) -> list[Row]:
    """All rows of one family. A compile that fails is one row for its target."""
    import torch

    from segc.commands.compile import compile_request
    from segc.compilation.cache import CompileCache
    from segc.compilation.request import Request
    from segc.errors import SegcError
    from segc.frontend.source import open_source
    from segc.parity import metrics, sample_inputs
    from segc.parity.reference import reference_of
    from segc.runtime.engine import accepted, load

    torch.set_num_threads(settings.threads)
    cache, source = CompileCache(), open_source(FAMILIES[family], mode="whole")
    cache.source((FAMILIES[family], None, False, "whole"), lambda: source)
    reference, info = reference_of(source), source.info
    trace = parse_size(settings.trace) if settings.trace else info.shape
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        engines: dict[str, Run] = {}
        by_pixels = False
        for target in settings.targets:
            request = Request(
                FAMILIES[family], target, dynamic=True, trace_shape=trace, output="logits", mode="whole",
                verify=False, out=folder / target,
            )  # fmt: skip
            try:
                bundle = compile_request(request, cache=cache)
                engine = load(bundle.path, threads=settings.threads)
            except SegcError as error:
                rows.append(Row(family, target, "", 0, failure=" ".join([error.what, *error.details["because"]])))
                continue
            by_pixels = bool(bundle.manifest.to_json()["model"]["top_k"])
            taken = bundle.manifest.input
            engines[target] = lambda x, engine=engine: engine.run(x)["logits"]  # type: ignore[misc]
        plain = {t: run for t, run in _plain(source.module, trace, folder, settings).items() if t in engines}
        for size in settings.sizes if engines else ():
            height, width = (
                accepted(max(side, taken.limits(at)[0]), at, taken) for at, side in enumerate(parse_size(size), 2)
            )
            for batch in settings.batches:
                shape = (batch, info.in_channels, height, width)
                inputs = list(sample_inputs.inputs(shape, info.mean, info.std, info.channel_order))
                inputs = inputs if batch == 1 else mixed_batch(inputs)
                cases: dict[str, list[Case]] = {target: [] for target in engines}
                plains: dict[str, list[float]] = {target: [] for target in plain}
                for label, x in inputs:
                    wanted = reference(x)
                    for target, run in engines.items():
                        cases[target].append(metrics.compare(label, wanted, run(x), info.threshold))
                    for target, run in plain.items() if batch == 1 else ():
                        plains[target] += _error_of(run, x, wanted)
                rows += [
                    _worst(family, target, f"{height}x{width}", batch, found, plains.get(target, []), by_pixels)
                    for target, found in cases.items()
                ]
    return rows


def mixed_batch(inputs: Sequence[tuple[str, np.ndarray]]) -> list[tuple[str, np.ndarray]]:
    """One batch that alternates images of all inputs: cheaper than two batches, and it shows whether images mix."""
    count = len(inputs[0][1])
    images = [inputs[at % len(inputs)][1][at // len(inputs)] for at in range(count)]
    return [(" and ".join(label for label, _ in inputs), np.stack(images))]


def _plain(module: object, trace: tuple[int, int], folder: Path, settings: Settings) -> dict[str, Run]:
    """The plain export in each runtime that takes it; empty if the exporter fails."""
    import torch

    from segc import targets
    from segc.frontend.quiet import quiet

    dims = (dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC),)
    try:
        with quiet(), torch.no_grad():
            program = torch.onnx.export(
                module, (torch.zeros(2, 3, *trace),), dynamo=True, opset_version=20, dynamic_shapes=dims,  # type: ignore[arg-type]
                verbose=False,
            )  # fmt: skip
        assert program is not None
        model = program.model_proto
    except Exception as error:  # an exception of the exporter is a result
        print(f"plain export: {type(error).__name__}: {str(error).splitlines()[0]}", file=sys.stderr)
        return {}
    found: dict[str, Run] = {}
    for name in settings.targets:
        place = folder / f"{name}-plain"
        place.mkdir()
        target = targets.get(name)
        try:
            found[name] = target.load(
                place, target.emit(model, place, targets.Settings()).options, settings.threads
            ).run
        except Exception as error:  # each runtime has its own exception types
            print(f"plain export in {name}: {str(error).splitlines()[0]}", file=sys.stderr)
    return found


def _error_of(run: Run, x: np.ndarray, wanted: np.ndarray) -> list[float]:
    """The relative error; empty if the plain export does not run at this size."""
    from segc.parity import metrics

    try:
        return [metrics.compare("plain", wanted, run(x), None).relative_error or 0.0]
    except Exception:  # each runtime has its own exception types, and wrong output sizes raise ours
        return []


def _worst(
    family: str, target: str, size: str, batch: int, cases: list[Case], plain: list[float], by_pixels: bool
) -> Row:
    ratios = [case.margin_ratio for case in cases if case.margin_ratio is not None]
    return Row(
        family, target, size, batch, max(case.relative_error or 0.0 for case in cases),
        min(case.agreement for case in cases), max(ratios, default=None), max(plain, default=None), by_pixels,
    )  # fmt: skip


def parse_size(size: str) -> tuple[int, int]:
    """Parse 'HxW'."""
    height, width = map(int, size.split("x"))
    return height, width


def isolated(families: list[str], settings: Settings) -> Iterator[list[Row]]:
    """The rows of each family, measured in a fresh process."""
    context = multiprocessing.get_context("spawn")
    for family in families:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            try:
                yield pool.submit(measure, family, settings).result()
            except Exception as error:  # a crash fails one family only
                yield [Row(family, "", "", 0, failure=f"{type(error).__name__}: {error}")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", default=[*FAMILIES], choices=[*FAMILIES], metavar="F")
    parser.add_argument("--targets", nargs="+", default=["onnxruntime", "openvino"])
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="HxW")
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES, metavar="N")
    parser.add_argument("--trace", metavar="HxW", help="default: the config's crop size")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="save the rows here")
    args = parser.parse_args()
    settings = Settings(tuple(args.targets), tuple(args.sizes), tuple(args.batches), args.trace, args.threads)
    rows = [Row(**row) for row in json.loads(args.json.read_text())] if args.json and args.json.exists() else []
    print("| family | target | size | batch | error | plain error | pixels | margin / error | |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        print(row.line())
    missing = [family for family in args.families if family not in {row.family for row in rows}]
    for found in isolated(missing, settings):
        rows += found
        print("\n".join(row.line() for row in found), flush=True)
        if args.json:
            args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    print(f"{sum(row.ok for row in rows)} of {len(rows)} ok")
    return 0 if all(row.ok for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
