"""`segc serve BUNDLE...`: serve bundles over HTTP."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from segc import ranges
from segc.cli import arguments

_DESCRIPTION = """\
Serve bundles over HTTP: POST an image file to /models/NAME/segment, or with one bundle to /segment, and get its mask as
a palette PNG; ?format=overlay gives the colours on the image, ?format=rle COCO's run-length code of each class. /docs
describes it, /health/live and /health/ready serve probes, /metrics Prometheus. There is no authentication: only this
machine is reached unless --host says otherwise.
"""


def add_parser(commands: Any) -> None:
    """Register the command."""
    p: argparse.ArgumentParser = commands.add_parser("serve", help="serve bundles over HTTP", description=_DESCRIPTION)
    p.add_argument("bundles", metavar="BUNDLE", nargs="+", help="its folder's name is the model's name")
    p.add_argument("--host", default="127.0.0.1", help="default: %(default)s; 0.0.0.0 is every network")
    _add_number(p, "--port", ranges.PORT, 8000, "default: %(default)s; 0 takes a free one")
    _add_number(p, "--at-once", ranges.THREADS, 0, "images worked on at a time; default: half the cores")
    _add_number(p, "--queue", ranges.WAITING, 16, "requests that may wait beyond them (default %(default)s); then 429")
    _add_number(p, "--timeout", ranges.SECONDS, 30.0, "seconds a request may wait (default %(default)s); then 503")
    _add_number(p, "--max-bytes", ranges.COUNT, 32 << 20, "of an image file, default %(default)s")
    _add_number(p, "--max-pixels", ranges.PIXELS, 1 << 26, "of an image, default %(default)s")
    arguments.add_python(p)
    arguments.add_signature(p)
    arguments.add_common(p)


def main(args: argparse.Namespace) -> int:
    """Serve until the process is interrupted."""
    from segc.commands.serve import serve

    done = serve(
        args.bundles, host=args.host, port=args.port, at_once=args.at_once, queue=args.queue, timeout=args.timeout,
        max_bytes=args.max_bytes, max_pixels=args.max_pixels, threads=args.threads, public_key=args.signature,
        python=args.python, progress=lambda text: print(f"segc: {text}", file=sys.stderr, flush=True),
    )  # fmt: skip
    if args.json:
        print(json.dumps({"models": done.models, "requests": done.requests}))
    else:
        print(f"segc: ended after {done.requests} request{'' if done.requests == 1 else 's'}", file=sys.stderr)
    return 0


def _add_number(parser: argparse.ArgumentParser, name: str, range_: ranges.Range, default: float, words: str) -> None:
    parser.add_argument(name, metavar="N", type=arguments.number(name, range_), default=default, help=words)
