"""`segc bisect`: find what makes an engine differ from its source."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from segc import ranges
from segc.cli import arguments, compile_options, console

if TYPE_CHECKING:
    from segc.commands.bisect import Bisection

_DESCRIPTION = """\
Find the pass, then the nodes, or the smallest part of the graph that the target's own runtime computes wrongly, refuses
or fails on. What is wrong is written as an ONNX file with its inputs, and a script that shows the difference. Ctrl-C
keeps what was found until then.
"""


def add_parser(commands: Any) -> None:
    """Register the command."""
    p: argparse.ArgumentParser = commands.add_parser(
        "bisect", help="find the pass or the nodes that make an engine wrong", description=_DESCRIPTION
    )
    compile_options.add(p)
    p.add_argument("-o", "--out", metavar="DIR", help="folder for the part that is wrong (default: NAME-TARGET.bisect)")
    p.add_argument(
        "--seconds", type=arguments.number("--seconds", ranges.SECONDS), default=300.0, metavar="S",
        help="time for the search in the runtime (default 300); what was found until then is kept",
    )  # fmt: skip


def main(args: argparse.Namespace) -> int:
    """Search, and print what was found."""
    with console.steps(quiet=args.json) as progress:
        progress("starting")
        arguments.prepare_libraries(args.source)
        from segc.commands.bisect import bisect

        request = compile_options.request(args)
        found = bisect(request, out=args.out, seconds=args.seconds, progress=progress)
    print(json.dumps(found.to_json(), indent=2) if args.json else _text(found))
    return 0


def _text(found: Bisection) -> str:
    lines = [f"at fault:  {found.stage}" if found.stage != "nothing" else "at fault:  nothing"]
    for label, texts in (("", found.words), ("node:", found.nodes), ("not it:", found.ruled_out)):
        lines += [f"{label if at == 0 else '':<10} {text}" for at, text in enumerate(texts)]
    if found.folder is not None:
        lines.append(f"{'part:':<10} {found.folder}; shown by: python {found.folder / 'show.py'}")
    return "\n".join(lines)
