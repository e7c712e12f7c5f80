"""Time the masks of segc.hpp beside those of Python's compiled kernel, in turns, on the same logits.

    python benchmarks/cpp_masks.py [--threads 1] [--repeat 9]

Needs a C++ compiler and numba. Prints the least time of each in milliseconds, and whether the masks are equal.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from segc.runtime.masks import dispatch
from tests.helpers import cpp

CASES = [(19, (64, 64), (512, 512)), (150, (128, 128), (512, 512)), (19, (128, 256), (1024, 2048))]


def milliseconds(run: Callable[[], np.ndarray]) -> float:
    start = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=9)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        flags = "-O3", "-march=native", "-fPIC", "-shared"
        probe = cpp.Probe(cpp.compiled(cpp.HERE / "probe.cpp", Path(folder) / "probe.so", *flags))
        rng = np.random.default_rng(0)
        for channels, small, size in CASES:
            noise = rng.standard_normal((channels, *small), np.float32)
            scene = np.stack([cv2.GaussianBlur(plane, (0, 0), 4) for plane in noise])
            for kind, logits in (("scene", scene), ("noise", noise)):

                def by_cpp(x: np.ndarray = logits, to: tuple[int, int] = size) -> np.ndarray:
                    return probe.mask(x, to, threads=chosen.threads)

                def by_python(x: np.ndarray = logits, to: tuple[int, int] = size) -> np.ndarray:
                    return dispatch.resize_argmax(x, to, False, threads=chosen.threads)

                equal = np.array_equal(by_cpp(), by_python())
                times = [(milliseconds(by_cpp), milliseconds(by_python)) for _ in range(chosen.repeat)]
                best = [min(column) for column in zip(*times, strict=True)]
                print(
                    f"{channels} classes, {small} to {size}, {kind}: C++ {best[0]:.2f}, Python {best[1]:.2f}, {equal=}"
                )


if __name__ == "__main__":
    main()
