"""`segc explain CODE`: the meaning of an error code, its typical causes and remedies."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

from segc.errors import Code, UsageError


def add_parser(commands: Any) -> None:
    """Register the command."""
    p: argparse.ArgumentParser = commands.add_parser("explain", help="explain an error code such as SEGC-S301")
    p.add_argument("code", metavar="CODE", help="the code in brackets at the end of a message, with or without SEGC-")
    p.add_argument("--json", action="store_true", help="print JSON instead of text")


def main(args: argparse.Namespace) -> int:
    """Print the explanation."""
    from segc.errors.reference import EXPLANATIONS, GROUPS, explain

    code = _code(args.code)
    if args.json:
        entry = {"code": str(code), "exit_code": GROUPS[code[5]][0], **dataclasses.asdict(EXPLANATIONS[code])}
        print(json.dumps(entry, indent=2))
    else:
        print(explain(code))
    return 0


def _code(text: str) -> Code:
    name = text.strip("[]").upper()
    name = name if name.startswith("SEGC-") else f"SEGC-{name}"
    try:
        return Code(name)
    except ValueError:
        raise UsageError(
            f"there is no error code '{text}'", code=Code.UNKNOWN_NAME, so="docs/errors.md lists all error codes"
        ) from None
