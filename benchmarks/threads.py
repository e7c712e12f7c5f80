"""Calls per second of an engine that several threads share, and whether each result equals that of a single call.

    python benchmarks/threads.py BUNDLE... [--threads N] [--callers 1,2,4,8] [--seconds S] [--shape HxW]

The engine is loaded for that number of callers (`callers` of segc.load). --threads: that compute one call (0: the
runtime's own choice); use 1 to compare numbers of callers. With a tiny model, the script would measure the calls and
not the runtime: use one that takes some milliseconds, on an idle machine.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import segc
from segc.cli.arguments import shape


def measured(engine: segc.Engine, x: np.ndarray, callers: int, seconds: float) -> tuple[float, int]:
    """Calls per second, and the number of calls whose result differs from that of a single call."""
    kind = engine.manifest.output.kind
    inputs = [np.roll(x, at, axis=-1) for at in range(callers)]
    want = [engine.run(each)[kind] for each in inputs]
    begin = time.perf_counter()
    end = begin + seconds

    def caller(at: int) -> tuple[int, int]:
        calls = wrong = 0
        while time.perf_counter() < end:
            wrong += not np.array_equal(engine.run(inputs[at])[kind], want[at])
            calls += 1
        return calls, wrong

    with ThreadPoolExecutor(callers) as pool:
        done = list(pool.map(caller, range(callers)))
    return sum(calls for calls, _ in done) / (time.perf_counter() - begin), sum(wrong for _, wrong in done)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--callers", default="1,2,4,8")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--shape", default="512x512", help="input size of dynamic engines")
    args = parser.parse_args()
    counts = [int(count) for count in args.callers.split(",")]
    print("bundle", *(f"{count} callers" for count in counts), "wrong", sep="\t")
    for path in args.bundles:
        engines = [segc.load(path, threads=args.threads, callers=count) for count in counts]
        engine = engines[0]
        height, width = (
            fixed or free for fixed, free in zip(engine.manifest.input.shape[2:], shape(args.shape), strict=True)
        )
        x = np.random.default_rng(0).standard_normal((1, 3, height, width)).astype(np.float32)
        rates = [measured(one, x, count, args.seconds) for one, count in zip(engines, counts, strict=True)]
        print(path, *(f"{rate:.1f}/s" for rate, _ in rates), sum(wrong for _, wrong in rates), sep="\t", flush=True)


if __name__ == "__main__":
    main()
