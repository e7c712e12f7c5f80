"""Long use of bundles: results stay those of the first calls, and memory stays flat.

    PYTHONPATH=. python tools/endurance.py [--images 2000] [--loads 10000] [--minutes 60] [--targets ...]

For each target: `threads`, 8 threads that share an engine segment IMAGES images each; `processes`, 4 processes do the
same; `loads`, a bundle is loaded and run LOADS times; `sizes`, an engine gets images of changing sizes for MINUTES.
Prints a line for each. Exit code 1 if a result differs from that of a single call, or memory grows.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import segc
from tests.helpers.target_bundles import TARGETS, bundle
from tests.helpers.tiny_bundles import photograph

THREADS, PROCESSES, KINDS = 8, 4, 32  # images of so many sizes
GROWTH = 16 << 20  # bytes between a quarter of the way and the end: allocators keep some
SIDES = 16, 128  # pixels


@dataclass(frozen=True)
class Outcome:
    """calls: how many. wrong: results that differ. growth: bytes of memory since a quarter of the calls."""

    calls: int
    wrong: int
    growth: int = 0

    @property
    def good(self) -> bool:
        """No wrong result, and memory is flat."""
        return self.wrong == 0 and self.growth <= GROWTH

    def __str__(self) -> str:
        return f"{self.calls} calls, {self.wrong} wrong, memory {self.growth / 2**20:+.1f} MiB"


def resident() -> int:
    """The resident memory of this process in bytes."""
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * 4096


def images(seed: int = 0) -> list[np.ndarray]:
    """Photographs of KINDS sizes."""
    sizes = np.random.default_rng(seed).integers(*SIDES, (KINDS, 2))
    return [photograph(int(height), int(width), seed=at) for at, (height, width) in enumerate(sizes)]


def segmented(path: Path, count: int, threads: int) -> Outcome:
    """Segment `count` images in each of so many threads, and compare with the masks of one thread."""
    engine, given = segc.load(path, threads=1), images()
    want = [engine.segment(image).mask for image in given]

    def work(first: int) -> int:
        return sum(
            not np.array_equal(engine.segment(given[at % KINDS]).mask, want[at % KINDS])
            for at in range(first, first + count)
        )

    with ThreadPoolExecutor(threads) as pool:
        return Outcome(count * threads, sum(pool.map(work, range(threads))))


def in_processes(path: Path, count: int) -> Outcome:
    """The same in PROCESSES processes, each with an engine of its own."""
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        found = pool.starmap(segmented, [(path, count, 1)] * PROCESSES)
    return Outcome(sum(each.calls for each in found), sum(each.wrong for each in found))


def flat(steps: Iterator[bool], until: Callable[[int], bool], quarter: Callable[[int], bool]) -> Outcome:
    """Take steps, each of which says whether its result was wrong. quarter, until: of the number of steps taken."""
    calls = wrong = start = 0
    for calls, bad in enumerate(steps, 1):
        wrong += bad
        if not start and quarter(calls):
            start = resident()
        if until(calls):
            break
    return Outcome(calls, wrong, resident() - start)


def loads(path: Path, count: int) -> Outcome:
    """Load the bundle `count` times and run it once each time."""
    image = images()[0]
    want = segc.load(path, threads=1).segment(image).mask

    def step() -> Iterator[bool]:
        while True:
            yield not np.array_equal(segc.load(path, threads=1).segment(image).mask, want)

    return flat(step(), lambda calls: calls >= count, lambda calls: calls >= count / 4)


def sizes(path: Path, minutes: float) -> Outcome:
    """Segment images of changing sizes. Every hundredth call repeats one of the first, and is compared."""
    engine, known = segc.load(path, threads=1), images()
    want = [engine.segment(image).mask for image in known]
    random, begin = np.random.default_rng(1), time.monotonic()

    def step() -> Iterator[bool]:
        while True:
            for _ in range(99):
                height, width = random.integers(*SIDES, 2)
                engine.segment(photograph(int(height), int(width)))
                yield False
            at = int(random.integers(KINDS))
            yield not np.array_equal(engine.segment(known[at]).mask, want[at])

    def passed(share: float) -> bool:
        return time.monotonic() - begin >= share * minutes * 60

    return flat(step(), lambda _: passed(1), lambda _: passed(0.25))


def main() -> int:
    """Run all parts for all targets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--loads", type=int, default=10000)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), choices=TARGETS)
    args = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory() as folder:
        for target in args.targets:
            path = bundle(target, "whole", Path(folder))
            parts: dict[str, Callable[[], Outcome]] = {
                "threads": lambda path=path: segmented(path, args.images, THREADS),
                "processes": lambda path=path: in_processes(path, args.images),
                "loads": lambda path=path: loads(path, args.loads),
                "sizes": lambda path=path: sizes(path, args.minutes),
            }  # type: ignore[misc]
            for name, part in parts.items():
                begin = time.monotonic()
                outcome = part()
                good &= outcome.good
                verdict = "ok" if outcome.good else "FAULT"
                print(f"{target} {name}: {verdict}, {outcome}, {time.monotonic() - begin:.0f} s", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
