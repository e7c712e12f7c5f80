"""`segc sbom`: write the bill of materials of a bundle."""

from __future__ import annotations

import argparse
from typing import Any

_DESCRIPTION = """\
Write what BUNDLE was made from, holds and needs, as CycloneDX 1.6 in JSON: source, checkpoint and files with their
SHA-256, runtimes with their versions. The same bundle always gives the same bytes.
"""


def add_parser(commands: Any) -> None:
    """Register the command."""
    p: argparse.ArgumentParser = commands.add_parser(
        "sbom", help="write the bill of materials of a bundle", description=_DESCRIPTION
    )
    p.add_argument("bundle", metavar="BUNDLE")
    p.add_argument("-o", "--out", metavar="FILE", help="default: standard output")


def main(args: argparse.Namespace) -> int:
    """Write it."""
    from segc.commands.sbom import sbom

    text = sbom(args.bundle, out=args.out).text
    print(text if args.out is None else args.out, end="" if args.out is None else "\n")
    return 0
