"""`segc kit`: pack inputs, reference outputs and a checker for a machine without segc."""

from __future__ import annotations

import argparse
import json
from typing import Any

from segc.cli import arguments, console

_DESCRIPTION = """\
Write a folder for a machine that has the runtime and not segc: the bundle, inputs, the outputs of the model, and small
checkers in Python and C++ that say whether the engine there is equal, and where not. Give SOURCE unless it is a zoo
name. The result file comes back: segc verify BUNDLE --kit-result FILE.
"""


def add_parser(commands: Any) -> None:
    """Register the command."""
    p: argparse.ArgumentParser = commands.add_parser(
        "kit", help="pack a checker for the machine that an engine will run on", description=_DESCRIPTION
    )
    p.add_argument("bundle", metavar="BUNDLE")
    arguments.add_source(p, optional=True)
    p.add_argument("-o", "--out", metavar="DIR", required=True, help="folder for the kit")
    p.add_argument("--force", action="store_true", help="replace an earlier kit")
    p.add_argument("--images", metavar="DIR", help="inputs from these images (file or folder) instead of noise")
    arguments.add_limits(p)
    arguments.add_files(p)
    arguments.add_trust(p)
    p.add_argument("--json", action="store_true", help="print JSON instead of text")


def main(args: argparse.Namespace) -> int:
    """Write the kit, and print where it is."""
    with console.steps(quiet=args.json) as progress:
        from segc.commands.kit import kit

        made = kit(
            args.bundle, source=args.source, out=args.out, force=args.force, checkpoint=args.checkpoint,
            allow_mismatch=args.allow_mismatch, images=args.images, max_error=args.max_error,
            min_agreement=args.min_agreement, channels=args.channels, skip_transforms=tuple(args.skip_transform),
            trust_remote_code=args.trust_remote_code, progress=progress,
        )  # fmt: skip
    if args.json:
        print(json.dumps(made.to_json(), indent=2))
        return 0
    print(
        f"{made.path}: {len(made.cases)} cases, checkers in {' and '.join(made.checkers)}; README.md says how they run"
    )
    print(
        f"next:    on the other machine: python {made.path}/check.py; here: segc verify {args.bundle} --kit-result FILE"
    )
    return 0
