"""`segc passes`: every pass with its algebra, facts and options."""

from __future__ import annotations

import argparse
import json
from typing import Any


def add_parser(commands: Any) -> None:
    """Register the command."""
    p: argparse.ArgumentParser = commands.add_parser("passes", help="list passes: algebra, facts, options")
    p.add_argument("--json", action="store_true", help="print JSON instead of text")


def main(args: argparse.Namespace) -> int:
    """List all passes."""
    from segc.passes import REGISTRY

    rows = [_describe(cls) for cls in REGISTRY.values()]
    if args.json:
        print(json.dumps(rows, indent=2))
        return 0
    for row in rows:
        print(row["name"])
        print(f"  {row['algebra']}")
        for key in ("needs", "gives", "drops", "options"):
            if row[key]:
                print(f"  {key + ':':<9}{', '.join(row[key])}")
    return 0


def _describe(cls: type[Any]) -> dict[str, Any]:
    from segc.pipeline.pass_spec import described, options

    facts = {
        key: sorted(value) if isinstance(value := getattr(cls, key), frozenset) else []
        for key in ("needs", "gives", "drops")
    }
    return {"name": cls.name, "algebra": cls.algebra, **facts, "options": [described(o) for o in options(cls).values()]}
