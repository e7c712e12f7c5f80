"""`segc doctor`: what works here, and the exact command for what does not."""

from __future__ import annotations

import argparse
import json
import platform
from dataclasses import asdict
from typing import Any

from segc import __version__
from segc.cli import console


def add_parser(commands: Any) -> None:
    """Register the command."""
    p: argparse.ArgumentParser = commands.add_parser("doctor", help="say which targets and sources work here")
    p.add_argument("--json", action="store_true", help="print JSON instead of text")


def main(args: argparse.Namespace) -> int:
    """Look at every target and source. Exit code 0: the doctor itself did its work."""
    from segc.commands.doctor import doctor

    found = doctor()
    if args.json:
        content = {"segc": __version__, "python": platform.python_version(), "findings": [asdict(f) for f in found]}
        print(json.dumps(content, indent=2))
        return 0
    print(f"segc {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    console.table(
        ("what", "works", "detail", "to do"), [[f.what, "yes" if f.works else "no", f.detail, f.so] for f in found]
    )
    return 0
