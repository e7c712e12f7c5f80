"""`segc explain WHAT`: an error code, an op of a target, or what becomes of one node."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from segc.bundle.manifest import NAME
from segc.cli import arguments
from segc.errors import Code, UsageError

_DESCRIPTION = """\
Explain an error code. With --target: what the target's table says about an op, and which passes rewrite it; with
--source too: what each pass of the target's pipeline does to a node of a model, and whether the target takes what is
left. A bundle with a graph says itself which target it is for.
"""


def add_parser(commands: Any) -> None:
    """Register the command."""
    p: argparse.ArgumentParser = commands.add_parser(
        "explain", help="explain an error code such as SEGC-S301, an op, or a node", description=_DESCRIPTION
    )
    p.add_argument("what", metavar="WHAT", help="an error code, with or without SEGC-; an op; a node's name")
    p.add_argument("--target", metavar="T", help="explain an op or a node on this target")
    p.add_argument("--source", metavar="SOURCE", help="the model or the bundle that holds the node")
    p.add_argument("--shape", metavar="HxW", help="the size that the model is traced at, or the file specialized to")
    p.add_argument("--checkpoint", metavar="PTH", help="file with the weights of the model")
    p.add_argument("--json", action="store_true", help="print JSON instead of text")


def main(args: argparse.Namespace) -> int:
    """Print the explanation."""
    if args.target is not None or (args.source is not None and (Path(args.source) / NAME).is_file()):
        from segc.commands.explain import explain, text_of

        shape = arguments.shape(args.shape) if args.shape is not None else None
        found = explain(args.what, target=args.target, source=args.source, shape=shape, checkpoint=args.checkpoint)
        print(json.dumps(found.to_json(), indent=2) if args.json else text_of(found))
        return 0
    if args.source is not None or args.shape is not None or args.checkpoint is not None:
        raise UsageError(
            "--source, --shape and --checkpoint need --target", code=Code.CONFLICTING_OPTIONS,
            because="what becomes of a node depends on the target", so="segc targets lists them",
        )  # fmt: skip
    return _code(args.what, as_json=args.json)


def _code(text: str, *, as_json: bool) -> int:
    from segc.errors.reference import EXPLANATIONS, GROUPS, explain

    code = _known(text)
    if as_json:
        entry = {"code": str(code), "exit_code": GROUPS[code[5]][0], **dataclasses.asdict(EXPLANATIONS[code])}
        print(json.dumps(entry, indent=2))
    else:
        print(explain(code))
    return 0


def _known(text: str) -> Code:
    name = text.strip("[]").upper()
    name = name if name.startswith("SEGC-") else f"SEGC-{name}"
    try:
        return Code(name)
    except ValueError:
        raise UsageError(
            f"there is no error code '{text}'", code=Code.UNKNOWN_NAME,
            so=["docs/errors.md lists all error codes", "for an op or a node, name the target: --target T"],
        ) from None  # fmt: skip
