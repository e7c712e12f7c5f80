"""Argument types and groups that several commands share."""

from __future__ import annotations

import argparse
import re

from segc.errors import UsageError


def shape(text: str) -> tuple[int, int]:
    """'512x1024' as (height, width)."""
    match = re.fullmatch(r"(\d+)[xX](\d+)", text.strip())
    if match is None:
        raise UsageError(
            f"'{text}' is not a shape", because="a shape is HEIGHTxWIDTH in pixels", so="for example --shape 512x1024"
        )
    height, width = int(match[1]), int(match[2])
    if min(height, width) < 1:
        raise UsageError(f"shape {height}x{width} has no pixels", so="height and width are at least 1")
    if max(height, width) > 1 << 15:
        raise UsageError(f"shape {height}x{width} is too large", because="a side is at most 32768 pixels")
    return height, width


def add_source(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    """SOURCE and what belongs to it."""
    parser.add_argument(
        "source", metavar="SOURCE", nargs="?" if optional else None,
        help="mmseg config path or zoo name, Python file with `model` or `build_model()`, or .onnx file",
    )  # fmt: skip
    parser.add_argument("--checkpoint", metavar="PTH", help="weights; without it they are random from a fixed seed")
    parser.add_argument(
        "--allow-mismatch", action="store_true", help="load what fits of a checkpoint with missing or unexpected keys"
    )


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Limits of the parity gate."""
    parser.add_argument(
        "--max-error", type=float, default=1e-3, metavar="E", help="largest relative logit error (default 1e-3)"
    )
    parser.add_argument(
        "--min-agreement", type=float, default=0.999, metavar="A", help="least share of equal pixels (default 0.999)"
    )


def add_common(parser: argparse.ArgumentParser) -> None:
    """--threads and --json."""
    parser.add_argument(
        "--threads", type=int, default=0, metavar="N", help="threads of the runtime (default: all cores)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
