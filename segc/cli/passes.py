"""`segc passes`: every pass with its algebra, invariants, options and targets, or the pipeline of one target."""

from __future__ import annotations

import argparse
import json
from typing import Any

_KEYS = ("requires", "ensures", "invalidates", "options", "targets")


def add_parser(commands: Any) -> None:
    """Register the command."""
    p: argparse.ArgumentParser = commands.add_parser("passes", help="list passes, or the pipeline of a target")
    p.add_argument(
        "--target", metavar="T", help="the standard pipeline of this target, in order, instead of all passes"
    )
    p.add_argument("--json", action="store_true", help="print JSON instead of text")


def main(args: argparse.Namespace) -> int:
    """Print all passes, or those of a pipeline."""
    rows = _of_target(args.target) if args.target is not None else _all()
    if args.json:
        print(json.dumps(rows, indent=2))
    elif args.target is not None:
        _print_stages(rows)
    else:
        _print_all(rows)
    return 0


def _all() -> list[dict[str, Any]]:
    from segc.passes.registry import REGISTRY, folder_of
    from segc.pipeline.pass_spec import described, options
    from segc.pipeline.stages import targets_of

    serves = targets_of()
    return [
        {
            "name": cls.name, "folder": folder_of(cls), "algebra": cls.algebra, **_invariants(cls()),
            "options": [described(o) for o in options(cls).values()], "targets": serves.get(cls.name, []),
        }
        for cls in REGISTRY.values()
    ]  # fmt: skip


def _of_target(name: str) -> list[dict[str, Any]]:
    """The pipeline of a static mask engine. For dynamic engines it lacks the stage `specialize`, for logits `mask`."""
    from segc import targets
    from segc.pipeline import stages

    pipeline = stages.standard(targets.get(name), shape=(1, 512, 512), mask=True, threshold=0.5)
    return [
        {"stage": entry.stage, "name": entry.step.name, **_invariants(entry.step)} for entry in pipeline.entries
    ]  # fmt: skip


def _invariants(step: Any) -> dict[str, list[str]]:
    return {key: sorted(getattr(step, key)) for key in ("requires", "ensures", "invalidates")}


def _print_all(rows: list[dict[str, Any]]) -> None:
    from segc import targets

    folder, names = None, list(targets.names())
    for row in rows:
        if row["folder"] != folder:
            folder = row["folder"]
            print(f"{folder}/")
        print(f"  {row['name']}")
        print(f"    {row['algebra']}")
        for key in _KEYS:
            if row[key]:
                everywhere = key == "targets" and row[key] == names
                print(f"    {key + ':':<13}{'all' if everywhere else ', '.join(row[key])}")


def _print_stages(rows: list[dict[str, Any]]) -> None:
    """Print the passes by stage, without the invariants that almost every pass requires."""
    from segc.passes.base import Pass

    stage = None
    for number, row in enumerate(rows, 1):
        if row["stage"] != stage:
            stage = row["stage"]
            print(f"{stage}:")
        print(f"  {number:>3} {row['name']}")
        for key in ("requires", "ensures"):
            if named := [name for name in row[key] if name not in Pass.requires]:
                print(f"      {key + ':':<10}{', '.join(named)}")
