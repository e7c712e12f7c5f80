"""`segc build`: finish a bundle that was compiled with --defer."""

from __future__ import annotations

import argparse
import json
from typing import Any

from segc.cli import arguments, console

_DESCRIPTION = """\
Build the engine of BUNDLE, which segc compile --defer wrote on another machine, run it on the inputs stored in the
bundle, and compare the results with the stored outputs. The bundle is replaced only if that succeeds. torch is not
needed.
"""


def add_parser(commands: Any) -> None:
    """Register the command."""
    p: argparse.ArgumentParser = commands.add_parser(
        "build", help="finish a bundle that was compiled with --defer", description=_DESCRIPTION
    )
    p.add_argument("bundle", metavar="BUNDLE")
    arguments.add_limits(p)
    arguments.add_options(p, compiles=False)
    arguments.add_common(p)


def main(args: argparse.Namespace) -> int:
    """Build and verify, and print a summary."""
    with console.steps(quiet=args.json) as progress:
        from segc.commands.build import build

        bundle = build(
            args.bundle, max_error=args.max_error, min_agreement=args.min_agreement,
            options=arguments.options(args), threads=args.threads, progress=progress,
        )  # fmt: skip
    if args.json:
        print(json.dumps({"bundle": str(bundle.path), "report": bundle.report}, indent=2))
        return 0
    print(f"bundle:  {bundle.path}")
    print(f"engine:  {bundle.manifest.target.name} {bundle.manifest.target.runtime}")
    print(f"status:  {bundle.report['status']}")
    if bundle.report["parity"] is None:
        print("parity:  NOT CHECKED: the bundle was compiled with --no-verify")
    else:
        from segc.cli.compile import PARITY_HEADERS, parity_row

        console.table(PARITY_HEADERS, [parity_row(case) for case in bundle.report["parity"]["cases"]])
    return 0
