"""Images a second of `segc run` on a folder, over those of the engine alone on inputs in memory.

    python benchmarks/run_folder.py BUNDLE... --images DIR --rounds 5

Each round times both in turns: the engine alone on prepared inputs, one after another, as many as the folder has images
(at most --most), and `segc run` from image files to masks as PNG files, without and with overlays. Medians of the
rounds. Reading, decoding and writing share the cores with the engine, so the ratio says what they cost.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import segc
from segc.runtime.images import find_images


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(bundle: Path, files: list[Path], rounds: int, threads: int) -> str:
    """A line for one bundle."""
    engine = segc.load(bundle, threads=threads)
    given = engine.manifest.input
    x = np.random.default_rng(0).normal(size=[side or 512 for side in given.shape]).astype(given.dtype)

    def alone() -> None:
        for _ in files:
            engine.run(x)

    def folder(overlay: bool) -> None:
        out = Path(tempfile.mkdtemp(prefix="segc-"))
        segc.run(bundle, files, out=out, overlay=overlay, threads=threads)
        shutil.rmtree(out)

    found: dict[str, list[float]] = {"engine": [], "masks": [], "masks and overlays": []}
    alone()
    for _ in range(rounds):
        found["engine"].append(seconds(alone))
        found["masks"].append(seconds(lambda: folder(False)))
        found["masks and overlays"].append(seconds(lambda: folder(True)))
    rate = {name: len(files) / statistics.median(values) for name, values in found.items()}
    shares = [f"{name} {rate[name]:.1f}/s, {rate[name] / rate['engine']:.0%}" for name in list(rate)[1:]]
    return f"{bundle.name}: engine {rate['engine']:.1f}/s; {'; '.join(shares)}"


def main() -> None:
    """Measure every bundle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--most", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args()
    files = [file.path for file in find_images([args.images])][: args.most]
    for bundle in args.bundles:
        print(measure(bundle, files, args.rounds, args.threads), flush=True)


if __name__ == "__main__":
    main()
