"""`segc sign`: sign a bundle."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import sys
from typing import Any

_DESCRIPTION = """\
Sign BUNDLE with a secret key of minisign. The signature covers segc.json, and through its digests every file. Others
check it with `segc verify BUNDLE --signature PUBLIC_KEY` and `segc run BUNDLE --signature PUBLIC_KEY`.
"""
PASSWORD = "SEGC_KEY_PASSWORD"


def add_parser(commands: Any) -> None:
    """Register the command."""
    p: argparse.ArgumentParser = commands.add_parser("sign", help="sign a bundle", description=_DESCRIPTION)
    p.add_argument("bundle", metavar="BUNDLE")
    p.add_argument(
        "--secret-key", metavar="FILE", required=True,
        help=f"made by `minisign -G`; the password of an encrypted key is asked for, or taken from {PASSWORD}",
    )  # fmt: skip
    p.add_argument("--json", action="store_true", help="print JSON instead of text")


def main(args: argparse.Namespace) -> int:
    """Sign, and print the path of the signature."""
    from segc.commands.sign import sign

    path = sign(args.bundle, secret_key=args.secret_key, password=_password()).signature
    print(json.dumps({"signature": str(path)}) if args.json else f"{path} signs {args.bundle}")
    return 0


def _password() -> str | None:
    """From the environment, or typed; None if there is neither."""
    if (known := os.environ.get(PASSWORD)) is not None:
        return known
    return getpass.getpass("password of the secret key (empty if none): ") if sys.stdin.isatty() else None
