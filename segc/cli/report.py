"""`segc report`: a page about bundles, for people."""

from __future__ import annotations

import argparse
import json
from typing import Any


def add_parser(commands: Any) -> None:
    """Register the command."""
    p: argparse.ArgumentParser = commands.add_parser(
        "report", help="write a page about bundles: parity with pictures, errors, times, memory, passes",
        description="Write one HTML file about BUNDLEs, side by side: what was compiled from what, parity with"
        " pictures, errors and times by layer, memory, passes with the text before and after. It needs no network.",
    )  # fmt: skip
    p.add_argument("bundles", metavar="BUNDLE", nargs="+")
    p.add_argument(
        "--profile", metavar="JSON", nargs="+", default=[], help="files that segc bench --profile --json printed"
    )
    p.add_argument("--scores", metavar="JSON", nargs="+", default=[], help="files val.json that segc val wrote")
    p.add_argument("-o", "--out", metavar="FILE", default="report.html", help="the page (default report.html)")
    p.add_argument("--json", action="store_true", help="print JSON instead of text")


def main(args: argparse.Namespace) -> int:
    """Write the page, and print its path."""
    from segc.commands.report import report

    made = report(args.bundles, profile=args.profile, scores=args.scores, out=args.out)
    print(json.dumps({"report": str(made.path)}) if args.json else f"report:  {made.path}")
    return 0
