"""`segc package`: make a bundle ready for where it runs."""

from __future__ import annotations

import argparse
import json
from typing import Any

from segc.cli import console

_DESCRIPTION = """\
Make a folder that runs BUNDLE elsewhere. `--for web` makes a page that runs a bundle of ONNX Runtime in the browser: an
image or the camera in, the mask over it; no image leaves the page, and masks are those of `segc run`. `--for triton`
makes a model repository for NVIDIA Triton, `--for ovms` a folder for OpenVINO Model Server, `--for http` a folder that
runs `segc serve`.
"""


def add_parser(commands: Any) -> None:
    """Register the command."""
    p: argparse.ArgumentParser = commands.add_parser(
        "package", help="make a bundle ready for where it runs", description=_DESCRIPTION
    )
    p.add_argument("bundle", metavar="BUNDLE")
    p.add_argument(
        "--for",
        dest="purpose",
        metavar="PURPOSE",
        required=True,
        help="web: a page for browsers; triton, ovms: models of these servers; http: a folder with segc serve",
    )
    p.add_argument("-o", "--out", metavar="DIR", required=True, help="folder for the package")
    p.add_argument("--force", action="store_true", help="replace an earlier package")
    p.add_argument(
        "--onnxruntime-web", metavar="DIR",
        help="folder of the npm package onnxruntime-web; default: that in node_modules, here or in a folder above",
    )  # fmt: skip
    p.add_argument("--json", action="store_true", help="print JSON instead of text")


def main(args: argparse.Namespace) -> int:
    """Make the package, and print where it is."""
    with console.steps(quiet=args.json) as progress:
        from segc.commands.package import package

        made = package(
            args.bundle, purpose=args.purpose, out=args.out, force=args.force, onnxruntime_web=args.onnxruntime_web,
            progress=progress,
        )  # fmt: skip
    if args.json:
        print(json.dumps({"path": str(made.path), "purpose": made.purpose, "bytes": made.bytes}))
    else:
        print(
            f"{made.path}: a package for {made.purpose}, {made.bytes / 2**20:.1f} MiB; its README.md says how to use it"
        )
    return 0
