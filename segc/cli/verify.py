"""`segc verify`: compare a bundle with its source again, on noise or on the user's images."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import TYPE_CHECKING, Any

from segc.cli import arguments, console

if TYPE_CHECKING:
    from segc.golden.result import KitResult

_DESCRIPTION = """\
Check every file of BUNDLE, then compare its engine with the model that it was compiled from. Give SOURCE unless it is a
zoo name, and the checkpoint if one was used. Both must be the same files as at compile time.
"""


def add_parser(commands: Any) -> None:
    """Register the command."""
    p: argparse.ArgumentParser = commands.add_parser(
        "verify", help="compare a bundle with PyTorch again", description=_DESCRIPTION
    )
    p.add_argument("bundle", metavar="BUNDLE")
    arguments.add_source(p, optional=True)
    p.add_argument("--images", metavar="DIR", help="compare on these images (file or folder) instead of noise")
    p.add_argument(
        "--kit-result", metavar="FILE", help="judge the result.json of a kit's checker instead (see segc kit)"
    )
    arguments.add_signature(p)
    arguments.add_limits(p)
    arguments.add_files(p)
    p.add_argument(
        "--allow-file-difference", action="store_true",
        help="accept that `segment` differs from the source's own way from a file to a mask",
    )  # fmt: skip
    arguments.add_trust(p)
    arguments.add_python(p)
    arguments.add_native_limits(p)
    arguments.add_common(p)


def main(args: argparse.Namespace) -> int:
    """Verify, and print the figures. Raises ParityError (exit code 5) if a limit is missed."""
    with console.steps(quiet=args.json) as progress:
        from segc.commands.verify import verify

        result = verify(
            args.bundle, source=args.source, checkpoint=args.checkpoint, allow_mismatch=args.allow_mismatch,
            images=args.images, kit_result=args.kit_result, public_key=args.signature, max_error=args.max_error,
            min_agreement=args.min_agreement, threads=args.threads,
            memory_limit=args.memory_limit, time_limit=args.time_limit, channels=args.channels,
            skip_transforms=tuple(args.skip_transform), allow_file_difference=args.allow_file_difference,
            python=args.python, trust_remote_code=args.trust_remote_code, progress=progress,
        )  # fmt: skip
    if result.kit is not None:
        return _print_kit(args, result.kit)
    if args.json:
        cases, files = ([case.to_json() for case in found] for found in (result.cases, result.files))
        print(json.dumps({"bundle": args.bundle, "cases": cases, "files": files}, indent=2))
    else:
        from segc.cli.compile import PARITY_HEADERS, parity_row

        console.table(PARITY_HEADERS, [parity_row(case.to_json()) for case in result.cases])
        shared = f"{result.hybrid}, " if result.hybrid else ""
        count = f"{len(result.cases)} comparison{'' if len(result.cases) == 1 else 's'}"
        print(f"{args.bundle}: {shared}files intact, {count} within the limits")
    return 0


def _print_kit(args: argparse.Namespace, found: KitResult) -> int:
    if args.json:
        print(json.dumps({"bundle": args.bundle, "kit": dataclasses.asdict(found)}, indent=2))
        return 0
    rows = [
        [
            case.name,
            "-" if case.relative_error is None else f"{case.relative_error:.2e}",
            f"{case.agreement:.4%}",
            f"{case.milliseconds:.1f}",
        ]
        for case in found.cases
    ]
    console.table(("case", "relative error", "equal pixels", "ms"), rows)
    print(f"{args.bundle}: within the limits in {found.runtime} on {found.machine or 'another machine'}")
    return 0
