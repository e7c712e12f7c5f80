"""`segc run BUNDLE IMAGE...`: write masks as palette PNG files, and overlays."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from segc import ranges
from segc.cli import arguments, logs
from segc.errors import FileError, SegcError

if TYPE_CHECKING:
    from segc.commands.run import Progress, RunResult, Tile, Within
    from segc.commands.run_files import SegmentedImage
    from segc.streams.segment import SegmentedVideo

DEFAULT_OUT = "segc-out"
SAVES = ("mask", "overlay", "both", "npz", "rle", "polygons")


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
    parser.add_argument(
        "images", metavar="IMAGE", nargs="+",
        help="image or video file, folder of images, pattern such as 'in/*.mp4', address such as rtsp://..., number of "
        "a camera, or - for images or a video on standard input",
    )  # fmt: skip
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
    windows = parser.add_argument_group(
        "pictures larger than memory", "images at their own resolution; TIFF files are read and written by windows"
    )
    windows.add_argument(
        "--tile", metavar="HxW|model", type=_tile,
        help="segment images in windows of this size, or of the bundle's own (default: TIFF files above --max-pixels, "
        "with bundles that slide)",
    )  # fmt: skip
    windows.add_argument(
        "--stride", metavar="HxW", type=partial(arguments.shape, option="--stride"),
        help="from one window to the next (default: the bundle's, or 2/3 of the size)",
    )  # fmt: skip
    parser.add_argument(
        "--save", metavar="WHAT", choices=SAVES,
        help="mask, overlay, both (default), npz (NumPy), rle (COCO's run-length codes) or polygons (GeoJSON)",
    )  # fmt: skip
    streams = parser.add_argument_group("videos and streams", "overlays are H.264 videos, masks lossless ones")
    streams.add_argument(
        "--every", metavar="N", type=arguments.number("--every", ranges.EVERY), default=1, help="each Nth frame"
    )
    streams.add_argument(
        "--late", choices=("drop", "wait"), default="drop",
        help="frames that cameras and addresses give while others are worked on: drop the oldest (default), or wait",
    )  # fmt: skip
    arguments.add_python(parser)
    arguments.add_signature(parser)
    arguments.add_common(parser)


def _tile(text: str) -> Tile:
    return "model" if text == "model" else arguments.shape(text, option="--tile")


def main(args: argparse.Namespace) -> int:
    """Segment all images. Returns 0, or 8 if some cannot be used. Raises SegcError if none can be started."""
    from segc.commands.run import run

    with _progress(quiet=args.json) as (report, within):
        result = run(
            args.bundle, args.images, out=args.out, overlay=not args.no_overlay, opacity=args.opacity,
            direct=args.direct, threads=args.threads, max_pixels=args.max_pixels, public_key=args.signature,
            python=args.python, state=args.state, scheduler=args.scheduler, tile=args.tile, stride=args.stride,
            save=args.save, every=args.every, late=args.late,
            progress=report, within=within,
        )  # fmt: skip
    if args.json:
        print(json.dumps(result.to_json(), indent=2))
    else:
        _summarize(result)
    return FileError.exit_code if result.errors else 0


@contextmanager
def _progress(quiet: bool) -> Iterator[tuple[Progress, Within]]:
    """Yields a function that prints a line for each segmented image, and one for steps within an image.

    On a terminal also a progress bar on stderr.
    """

    def say(number: int, total: int, done: SegmentedImage | SegmentedVideo | None) -> None:
        if done is not None and not quiet:
            print(f"[{number}/{total}] {describe(done)}", flush=True)

    if logs.are_shown() or not sys.stderr.isatty() or not (quiet or sys.stdout.isatty()):
        yield say, lambda *_: None
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("segmenting", total=None)

        def advance(number: int, total: int, done: SegmentedImage | SegmentedVideo | None) -> None:
            say(number, total, done)
            bar.update(task, total=total, completed=number)

        parts = bar.add_task("", total=None, visible=False)

        begun: dict[Path, float] = {}

        def step(path: Path, done: int, total: int | None) -> None:
            pace = done / (time.monotonic() - begun.setdefault(path, time.monotonic()) or 1)
            shown = f"{path.name} {pace:.1f}/s"
            bar.update(parts, description=shown, total=total, completed=done, visible=done != total)

        yield advance, step


def describe(done: SegmentedImage | SegmentedVideo) -> str:
    """One line: the image or video, its file, its three most frequent classes."""
    from segc.streams.segment import SegmentedVideo

    shares = ", ".join(f"{name} {share:.1%}" for name, share in list(done.shares.items())[:3])
    if not isinstance(done, SegmentedVideo):
        return f"{done.image} -> {done.mask}: {shares}"
    pace = f"{done.frames} frames, {done.frames / done.seconds:.1f} a second"
    dropped = f", {done.dropped} dropped" if done.dropped else ""
    return f"{done.video} -> {', '.join(map(str, done.files))}: {pace}{dropped}; {shares}"


def _summarize(result: RunResult) -> None:
    if result.hybrid:
        print(f"{result.bundle}: {result.target}, {result.hybrid}")
    if result.windows:
        print(result.windows)
    if done := len(result.images):
        print(f"{_written(result)} of {done} {'image' if done == 1 else 'images'} are in {result.out.resolve()}")
    for line in grouped(result.errors):
        print(line, file=sys.stderr)


def _written(result: RunResult) -> str:
    first = result.images[0]
    if first.overlay is None:
        known = {".json": "run-length codes", ".geojson": "polygons"}
        return known.get(first.mask.suffix, "masks")
    return "overlays" if first.overlay == first.mask else "masks and overlays"


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
