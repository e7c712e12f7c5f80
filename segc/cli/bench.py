"""`segc bench`: latency and memory of bundles, run in turns."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from segc import ranges
from segc.cli import arguments, console

if TYPE_CHECKING:
    from segc.commands.bench import BenchResult


def add_parser(commands: Any) -> None:
    """Register the command."""
    p: argparse.ArgumentParser = commands.add_parser(
        "bench", help="measure latency and memory of bundles",
        description="Run bundles in turns, each in a process of its own. Speed is relative to the first bundle.",
    )  # fmt: skip
    p.add_argument("bundles", metavar="BUNDLE", nargs="+")
    p.add_argument(
        "--runs",
        type=arguments.number("--runs", ranges.COUNT),
        default=20,
        metavar="N",
        help="timed runs of each bundle (default 20)",
    )
    p.add_argument("--shape", metavar="HxW", help="input size for dynamic bundles (default 512x512)")
    arguments.add_common(p)


def main(args: argparse.Namespace) -> int:
    """Measure, and print a table."""
    from segc.commands.bench import bench

    shape = arguments.shape(args.shape) if args.shape is not None else None
    with console.steps(quiet=args.json) as progress:
        results = bench(args.bundles, runs=args.runs, shape=shape, threads=args.threads, progress=progress)
    if args.json:
        print(json.dumps([r.to_json() for r in results], indent=2))
        return 0
    first = results[0].median_ms
    rows = [[r.bundle, r.engine, "x".join(map(str, r.shape)), *_figures(r, first)] for r in results]
    console.table(("bundle", "engine", "input", "median ms", "p90 ms", "speed", "load ms", "peak MB"), rows)
    return 0


def _figures(result: BenchResult, first: float) -> list[str]:
    """The figures of one row."""
    return [
        f"{result.median_ms:.1f}",
        f"{result.p90_ms:.1f}",
        f"{first / result.median_ms:.2f}x",
        f"{result.load_ms:.0f}",
        f"{result.peak_mb:.0f}",
    ]
