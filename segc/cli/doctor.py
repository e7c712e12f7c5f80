"""`segc doctor`: which targets and sources work on this machine, and the commands that fix the others."""

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
    p: argparse.ArgumentParser = commands.add_parser(
        "doctor", help="show which targets and sources work on this machine"
    )
    p.add_argument("--clear-cache", action="store_true", help="delete the traces that segc compile keeps")
    p.add_argument("--json", action="store_true", help="print JSON instead of text")


def main(args: argparse.Namespace) -> int:
    """Try every target and source, and print the findings. The exit code is 0 whatever they are."""
    from segc.commands.doctor import doctor

    found = doctor(clear_cache=args.clear_cache)
    if args.json:
        content = {"segc": __version__, "python": platform.python_version(), "findings": [asdict(f) for f in found]}
        print(json.dumps(content, indent=2))
        return 0
    print(f"segc {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    console.table(
        ("what", "works", "detail", "to do"), [[f.what, "yes" if f.works else "no", f.detail, f.so] for f in found]
    )
    return 0
