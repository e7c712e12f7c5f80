"""`segc run BUNDLE IMAGE...`: write masks as palette PNG files, and overlays."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from segc import ranges
from segc.cli import arguments, logs
from segc.errors import FileError, SegcError

if TYPE_CHECKING:
    from segc.commands.run import Progress, RunResult, SegmentedImage

DEFAULT_OUT = "segc-out"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `run` to the command line."""
    parser = subparsers.add_parser(
        "run",
        help="segment images with a bundle",
        description="Segment images and folders of images. NAME_mask.png has class numbers as pixels and the classes' "
        "colours as palette; NAME_overlay.png shows the colours on the image. An image that cannot be used does not "
        "stop the others; the exit code is then 8.",
    )
    parser.add_argument("bundle", metavar="BUNDLE", help="folder that segc compile wrote")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="image file, or folder of images")
    parser.add_argument("-o", "--out", metavar="DIR", type=Path, default=Path(DEFAULT_OUT), help="default: %(default)s")
    parser.add_argument("--no-overlay", action="store_true", help="write masks only")
    parser.add_argument(
        "--direct", action="store_true",
        help="where segc makes the mask, resize small logits to the image in one step (faster; mmseg resizes twice)",
    )  # fmt: skip
    parser.add_argument(
        "--opacity",
        metavar="X",
        type=arguments.number("--opacity", ranges.OPACITY),
        default=0.5,
        help="of the overlay's colours, default 0.5",
    )
    parser.add_argument(
        "--max-pixels", metavar="N", type=arguments.number("--max-pixels", ranges.PIXELS), default=1 << 29,
        help="larger images are not decoded (default 536870912; an image takes about 6 bytes a pixel)",
    )  # fmt: skip
    parser.add_argument("--state", metavar="FILE", help="remember finished images, and go on where it was stopped")
    parser.add_argument(
        "--scheduler", metavar="ADDRESS", help="spread the images over the workers of this Dask scheduler"
    )
    arguments.add_python(parser)
    arguments.add_signature(parser)
    arguments.add_common(parser)


def main(args: argparse.Namespace) -> int:
    """Segment all images. Returns 0, or 8 if some cannot be used. Raises SegcError if none can be started."""
    from segc.commands.run import run

    with _progress(quiet=args.json) as report:
        result = run(
            args.bundle, args.images, out=args.out, overlay=not args.no_overlay, opacity=args.opacity,
            direct=args.direct, threads=args.threads, max_pixels=args.max_pixels, public_key=args.signature,
            python=args.python, state=args.state, scheduler=args.scheduler, progress=report,
        )  # fmt: skip
    if args.json:
        print(json.dumps(result.to_json(), indent=2))
    else:
        _summarize(result, overlays=not args.no_overlay)
    return FileError.exit_code if result.errors else 0


@contextmanager
def _progress(quiet: bool) -> Iterator[Progress]:
    """Yields a function that prints a line for each segmented image; on a terminal also a progress bar on stderr."""

    def say(number: int, total: int, done: SegmentedImage | None) -> None:
        if done is not None and not quiet:
            print(f"[{number}/{total}] {describe(done)}", flush=True)

    if logs.are_shown() or not sys.stderr.isatty() or not (quiet or sys.stdout.isatty()):
        yield say
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("segmenting", total=None)

        def advance(number: int, total: int, done: SegmentedImage | None) -> None:
            say(number, total, done)
            bar.update(task, total=total, completed=number)

        yield advance


def describe(done: SegmentedImage) -> str:
    """One line: the image, its mask, its three most frequent classes."""
    shares = ", ".join(f"{name} {share:.1%}" for name, share in list(done.shares.items())[:3])
    return f"{done.image} -> {done.mask}: {shares}"


def _summarize(result: RunResult, *, overlays: bool) -> None:
    if result.hybrid:
        print(f"{result.bundle}: {result.target}, {result.hybrid}")
    if done := len(result.images):
        what = "masks and overlays" if overlays else "masks"
        print(f"{what} of {done} {'image' if done == 1 else 'images'} are in {result.out.resolve()}")
    for line in grouped(result.errors):
        print(line, file=sys.stderr)


def grouped(failed: Sequence[tuple[Path, SegcError]]) -> list[str]:
    """The errors grouped by kind: what went wrong, the images, and what to do."""
    groups: dict[tuple[str, ...], list[tuple[Path, SegcError]]] = {}
    for path, error in failed:
        because = error.details["because"] or [error.what]
        groups.setdefault((error.code, *because), []).append((path, error))
    lines = []
    for (code, *because), members in groups.items():
        noun = "image was" if len(members) == 1 else "images were"
        lines.append(f"{len(members)} {noun} not segmented: {'; '.join(because)}   [{code}]")
        lines += [
            f"  {path}" + ("" if error.what in because or str(path) in error.what else f": {error.what}")
            for path, error in members
        ]
        lines += [f"  so       {advice}" for advice in members[0][1].details["so"]]
    return lines
