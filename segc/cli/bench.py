"""`segc bench`: latency, throughput and memory of bundles, run in turns."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from segc import ranges
from segc.cli import arguments, console

if TYPE_CHECKING:
    from segc.commands.bench import BenchResult
    from segc.runtime.layer_times import EngineProfile


_SHOWN = 20  # modules, and layers


def add_parser(commands: Any) -> None:
    """Register the command."""
    p: argparse.ArgumentParser = commands.add_parser(
        "bench", help="measure latency, throughput and memory of bundles",
        description="Run bundles in turns, each in a process of its own. Half of the calls lie between the quartiles."
        " Speed is relative to the first bundle; a difference within the noise says nothing.",
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
    p.add_argument(
        "--batch", type=arguments.number("--batch", ranges.COUNT), metavar="N",
        help="images of a call (default: those of the engine, or one)",
    )  # fmt: skip
    p.add_argument(
        "--streams", type=arguments.number("--streams", ranges.JOBS), metavar="N",
        help="measure the throughput too, with so many callers at once",
    )  # fmt: skip
    p.add_argument(
        "--warm-up", type=arguments.number("--warm-up", ranges.TURNS), default=2, metavar="N",
        help="calls of each bundle that do not count (default 2)",
    )  # fmt: skip
    p.add_argument(
        "--pause", type=arguments.number("--pause", ranges.PAUSE), default=0.0, metavar="S",
        help="seconds to wait before each turn, for processors that slow down when they are hot (default 0)",
    )  # fmt: skip
    p.add_argument(
        "--profile", action="store_true",
        help="measure each layer too, with the module of the model that it comes from (ONNX Runtime, OpenVINO, ncnn)",
    )  # fmt: skip
    arguments.add_common(p)


def main(args: argparse.Namespace) -> int:
    """Measure, and print a table."""
    from segc.commands.bench import bench

    shape = arguments.shape(args.shape) if args.shape is not None else None
    with console.steps(quiet=args.json) as progress:
        results = bench(
            args.bundles, runs=args.runs, shape=shape, threads=args.threads, batch=args.batch, streams=args.streams,
            warm_up=args.warm_up, pause=args.pause, profile=args.profile, progress=progress,
        )  # fmt: skip
    if args.json:
        print(json.dumps([r.to_json() for r in results], indent=2))
        return 0
    first = results[0].median_ms
    rows = [[r.bundle, r.engine, "x".join(map(str, r.shape)), *_figures(r, first)] for r in results]
    rate = ["images/s"] if args.streams is not None else []
    console.table(
        (
            "bundle",
            "engine",
            "input",
            "median ms",
            "quartiles",
            "p90 ms",
            "noise",
            "speed",
            "load ms",
            "peak MB",
            *rate,
        ),
        rows,
    )
    threads = args.threads or "as many as the runtime chooses"
    at_once = f"; {args.streams} callers at once for images/s" if args.streams is not None else ""
    print(f"threads: {threads}{at_once}; processor: {results[0].processor}")
    for result in results:
        if result.profile is not None:
            _print_profile(result.bundle, result.profile)
    return 0


def _print_profile(bundle: str, profile: EngineProfile) -> None:
    """The modules and the layers that take longest."""
    print(f"{bundle}: {profile.method} All layers together: {profile.total_ms:.2f} ms")
    modules: dict[str, float] = {}
    for layer in profile.layers:
        modules[layer.module or "-"] = modules.get(layer.module or "-", 0.0) + layer.ms
    total = profile.total_ms or 1.0
    slowest = sorted(modules.items(), key=lambda row: -row[1])[:_SHOWN]
    console.table(("module", "ms", "share"), [[name, f"{ms:.3f}", f"{ms / total:.1%}"] for name, ms in slowest])
    layers = sorted(profile.layers, key=lambda layer: -layer.ms)[:_SHOWN]
    console.table(
        ("layer", "op", "ms", "share", "from"),
        [[each.name, each.op, f"{each.ms:.3f}", f"{each.ms / total:.1%}", each.origin or "-"] for each in layers],
    )
    if len(profile.layers) > _SHOWN:
        print(f"... and {len(profile.layers) - _SHOWN} more; --json has all")


def _figures(result: BenchResult, first: float) -> list[str]:
    """The figures of one row."""
    return [
        f"{result.median_ms:.1f}",
        f"{result.q1_ms:.1f}-{result.q3_ms:.1f}",
        f"{result.p90_ms:.1f}",
        f"{result.noise:.0%}",
        f"{first / result.median_ms:.2f}x",
        f"{result.load_ms:.0f}",
        f"{result.peak_mb:.0f}",
        *([] if result.images_per_second is None else [f"{result.images_per_second:.1f}"]),
    ]
