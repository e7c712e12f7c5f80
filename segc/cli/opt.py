"""`segc opt`: run passes on any ONNX file."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segc import ranges
from segc.cli import arguments, console

if TYPE_CHECKING:
    from segc.commands.optimize import Optimized, Step

_DESCRIPTION = """\
Run passes on any ONNX file, in the given order, and write the result. A pass is NAME or NAME:option=value,option=value;
`segc passes` lists names and options. Without --pass and --target, the clean-up that all targets share runs. Weights in
files beside the model (external data) are read on demand and written as a stream.
"""


def add_parser(commands: Any) -> None:
    """Register the command."""
    p: argparse.ArgumentParser = commands.add_parser(
        "opt", help="run passes on any ONNX file", description=_DESCRIPTION,
    )  # fmt: skip
    p.add_argument("source", metavar="ONNX", help="the file to read")
    what = p.add_argument_group("passes")
    what.add_argument(
        "--pass", dest="passes", action="append", default=[], metavar="NAME[:option=value,…]",
        help="a pass to run; repeat it for more, in this order",
    )  # fmt: skip
    what.add_argument("--target", metavar="T", help="the standard pipeline of a target instead")
    what.add_argument(
        "--stop-after",
        type=arguments.number("--stop-after", ranges.COUNT),
        metavar="N",
        help="run the first N passes only",
    )
    size = p.add_argument_group("sizes")
    size.add_argument("--shape", metavar="HxW", help="size of the image input: --target fixes it, --check runs with it")
    size.add_argument(
        "--batch", type=arguments.number("--batch", ranges.COUNT), metavar="N", help="batch, likewise (default 1)"
    )
    size.add_argument(
        "--buckets", nargs="+", metavar="HxW", default=[],
        help="specialize the result to each of these sizes, one file each: OUT-HxW.onnx",
    )  # fmt: skip
    p.add_argument("-o", "--out", metavar="ONNX", help="the file to write (default: none)")
    p.add_argument("--force", action="store_true", help="replace an existing file")
    p.add_argument(
        "--embed", type=arguments.number("--embed", ranges.MEGABYTES), metavar="MB",
        help="store weights of at most this many MB in the file itself, larger ones beside it (default 1900)",
    )  # fmt: skip
    p.add_argument(
        "--check", action="store_true",
        help="after each pass check the graph and, in ONNX Runtime, its numbers; report where they first differ",
    )  # fmt: skip
    p.add_argument(
        "--tolerance", type=arguments.number("--tolerance", ranges.LIMIT), metavar="E",
        help="for --check: largest relative difference (default 1e-5, or 20 times the effect of rounding the input)",
    )  # fmt: skip
    p.add_argument("--dump-ir", metavar="DIR", help="write the graph as text after each pass that changed it")
    arguments.add_native_limits(p)
    p.add_argument(
        "--skips", action="store_true", help="list the sites that passes recognized and left alone, with the reasons"
    )
    p.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def main(args: argparse.Namespace) -> int:
    """Run the passes, and print what each of them did."""
    shape = arguments.shape(args.shape) if args.shape is not None else None
    with console.steps(quiet=args.json) as progress:
        progress("starting")
        arguments.prepare_libraries(args.source)
        from segc.commands.optimize import optimize
        from segc.graph import external_weights

        progress(f"running passes on {args.source}")
        outcome = optimize(
            args.source, args.passes, target=args.target, shape=shape, batch=args.batch, out=args.out,
            force=args.force, check=args.check, tolerance=args.tolerance, dump_ir=args.dump_ir,
            stop_after=args.stop_after, memory_limit=args.memory_limit, time_limit=args.time_limit,
            buckets=[arguments.shape(text) for text in args.buckets],
            embed=external_weights.EMBED if args.embed is None else min(int(args.embed * 1e6), external_weights.EMBED),
        )  # fmt: skip
    if args.json:
        print(json.dumps(_json(args, outcome), indent=2))
    else:
        _print(args, outcome)
    return 0


def _json(args: argparse.Namespace, outcome: Optimized) -> dict[str, Any]:
    return {
        "source": args.source,
        "nodes": {"before": outcome.nodes_before, "after": len(outcome.graph.nodes)},
        "passes": [
            {
                "stage": step.stage,
                "name": step.name,
                "changes": step.result.changes,
                "skips": [{"node": s.node, "reason": s.reason} for s in step.result.skips],
                "ms": round(step.seconds * 1e3, 2),
                "nodes": {"before": step.nodes_before, "after": step.nodes_after},
                **({"relative_error": step.error} if args.check else {}),
            }
            for step in outcome.steps
        ],
        "files": [str(file) for file in outcome.files],
        "written": [
            {"file": str(judged.file), "opset": judged.opset, "relative_error": judged.error}
            for judged in outcome.written
        ],
        "notes": outcome.notes,
    }


def _print(args: argparse.Namespace, outcome: Optimized) -> None:
    for note in outcome.notes:
        print(f"note: {note}")
    checked = ("relative error",) if args.check else ()
    console.table(
        ("pass", "changes", "skips", "ms", "nodes", *checked), [_row(step, args.check) for step in outcome.steps]
    )
    if args.skips:
        for step in outcome.steps:
            for skip in step.result.skips:
                print(f"skip: {step.name}: '{skip.node}': {skip.reason}")
    elif count := sum(len(step.result.skips) for step in outcome.steps):
        print(f"skips: {count} sites were left alone; --skips lists them")
    print(f"nodes: {outcome.nodes_before} -> {len(outcome.graph.nodes)}")
    if args.dump_ir:
        print(f"text:  {args.dump_ir}")
    for file in outcome.files:
        print(f"wrote: {file} ({Path(file).stat().st_size / 1e6:.1f} MB)")
    for judged in outcome.written:
        error = "" if judged.error is None else f", relative error {judged.error:.1e} against {args.source}"
        print(f"opset: {judged.opset}{error}")


def _row(step: Step, check: bool) -> list[str]:
    nodes = f"{step.nodes_before} -> {step.nodes_after}"
    cells = [step.name, str(step.result.changes), str(len(step.result.skips)), f"{step.seconds * 1e3:.1f}", nodes]
    return [*cells, "-" if step.error is None else f"{step.error:.1e}"] if check else cells
