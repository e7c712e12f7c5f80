"""`segc targets`: the targets, and the operators that they accept."""

from __future__ import annotations

import argparse
import json
from typing import Any

from segc.cli import console


def add_parser(commands: Any) -> None:
    """Register the command."""
    p: argparse.ArgumentParser = commands.add_parser("targets", help="list targets and the operators they accept")
    p.add_argument("target", nargs="?", metavar="T", help="show the operators of one target")
    p.add_argument("--json", action="store_true", help="print JSON instead of text")


def main(args: argparse.Namespace) -> int:
    """Print all targets, or the operators of one."""
    from segc import targets

    if args.target is not None:
        target = targets.get(args.target)
        rows = {op: len(checks) for op, checks in sorted(target.ops.items())}
        if args.json:
            print(json.dumps({"name": target.name, "opset": target.opset, "conditions": rows}, indent=2))
        else:
            console.table(
                ("operator", "accepted"), [[op, "with conditions" if n else "always"] for op, n in rows.items()]
            )
        return 0
    found = [targets.get(name) for name in targets.names()]
    if args.json:
        print(
            json.dumps(
                [{"name": t.name, "summary": t.summary, "opset": t.opset, "ops": len(t.ops)} for t in found], indent=2
            )
        )
    else:
        console.table(
            ("target", "opset", "operators", "summary"),
            [[t.name, str(t.opset), str(len(t.ops)), t.summary] for t in found],
        )
    return 0
