"""`segc run BUNDLE IMAGE...`: masks as palette PNG, and overlays."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segc.cli import arguments
from segc.errors import FileError, SegcError, UsageError

if TYPE_CHECKING:
    from segc.runtime.engine import Engine
    from segc.runtime.images import ImageFile

DEFAULT_OUT = "segc-out"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `run` to the command line."""
    parser = subparsers.add_parser(
        "run",
        help="segment images with a bundle",
        description="Segment images and folders of images: NAME_mask.png holds class numbers with the classes' colours "
        "as palette, NAME_overlay.png shows them on the image. An image that cannot be used does not stop the others; "
        "the exit code is then 8.",
    )
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="folder that segc compile wrote")
    parser.add_argument("images", metavar="IMAGE", nargs="+", type=Path, help="image file, or folder of images")
    parser.add_argument("-o", "--out", metavar="DIR", type=Path, default=Path(DEFAULT_OUT), help="default: %(default)s")
    parser.add_argument("--no-overlay", action="store_true", help="write masks only")
    parser.add_argument(
        "--direct", action="store_true",
        help="resize small logits to the image in one step, where segc makes the mask (faster; mmseg takes two steps)",
    )  # fmt: skip
    parser.add_argument("--opacity", metavar="X", type=float, default=0.5, help="of the overlay's colours, default 0.5")
    arguments.add_common(parser)


@dataclass(frozen=True)
class Done:
    """One segmented image. shares: class to fraction of the pixels, largest first, absent classes left out."""

    image: Path
    mask: Path
    overlay: Path | None
    size: tuple[int, int]
    shares: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """As `--json` prints it; size is [height, width]."""
        overlay = None if self.overlay is None else str(self.overlay)
        return {
            "image": str(self.image),
            "mask": str(self.mask),
            "overlay": overlay,
            "size": self.size,
            "classes": self.shares,
        }


def main(args: argparse.Namespace) -> int:
    """Segment all images; 0, or 8 when some could not be used. Raises SegcError when none can be started."""
    from segc.runtime.engine import load
    from segc.runtime.images import find_images

    if not 0 <= args.opacity <= 1:
        raise UsageError(f"--opacity is {args.opacity}", because="0 shows the image alone, 1 the colours alone")
    images = find_images(args.images)
    _require_apart(args.out, args.images, images)
    engine = load(args.bundle, threads=args.threads)
    if engine.manifest.hybrid and not args.json:
        print(f"{args.bundle}: {engine.manifest.target.name}, {engine.manifest.hybrid}")
    _make_folder(args.out)
    done: list[Done] = []
    failed: list[tuple[Path, SegcError]] = []
    with _progress(len(images), quiet=args.json) as report:
        for image in images:
            try:
                done.append(
                    segment_file(
                        engine, image, args.out, overlay=not args.no_overlay, opacity=args.opacity, direct=args.direct
                    )
                )
                report(done[-1])
            except SegcError as error:
                failed.append((image.path, error))
                report(None)
    _summarize(args, done, failed, engine.manifest.hybrid)
    return FileError.exit_code if failed else 0


def segment_file(
    engine: Engine, image: ImageFile, out: Path, *, overlay: bool, opacity: float, direct: bool = False
) -> Done:
    """Segment one image and write its mask and overlay into `out`. Raises SegcError."""
    import cv2

    from segc.runtime.images import read_image, write_file

    pixels = read_image(image.path)
    result = engine.segment(pixels, direct=direct)
    mask, shown = out / f"{image.stem}_mask.png", out / f"{image.stem}_overlay.png"
    result.save(mask)
    if overlay:
        write_file(shown, cv2.imencode(".png", result.overlay(pixels, opacity))[1].tobytes())
    counts = sorted(((name, n) for name, n in result.counts().items() if n), key=lambda item: -item[1])
    shares = {name: round(n / result.mask.size, 6) for name, n in counts}
    height, width = result.mask.shape
    return Done(image.path, mask, shown if overlay else None, (height, width), shares)


def _require_apart(out: Path, given: Iterable[Path], images: list[ImageFile]) -> None:
    """Refuse to write over the images, or into a folder of them: the next run would segment the masks."""
    written = {(out / f"{i.stem}_{kind}.png").resolve() for i in images for kind in ("mask", "overlay")}
    if own := sorted(str(i.path) for i in images if i.path.resolve() in written):
        raise UsageError(f"the output would replace the image {own[0]}", so="choose another folder with -o")
    if any(path.is_dir() and path.resolve() == out.resolve() for path in given):
        raise UsageError(
            f"{out} is a folder of images and cannot take the output",
            because="the masks would be segmented by the next run",
            so="choose another folder with -o",
        )


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot make the folder {out}", because=error.strerror or str(error)) from error


class _Report:
    """Called after every image: a line for each that worked, or the step of a progress bar."""

    def __init__(self, total: int, quiet: bool, advance: Callable[[], None] = lambda: None) -> None:
        self.total, self.at, self.quiet, self.advance = total, 0, quiet, advance

    def __call__(self, done: Done | None) -> None:
        self.at += 1
        if done is not None and not self.quiet:
            print(f"[{self.at}/{self.total}] {describe(done)}", flush=True)
        self.advance()


@contextmanager
def _progress(total: int, quiet: bool) -> Iterator[_Report]:
    """A bar on a terminal, on stderr so that output can be piped; lines otherwise."""
    if not sys.stderr.isatty() or not (quiet or sys.stdout.isatty()):
        yield _Report(total, quiet)
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("segmenting", total=total)
        yield _Report(total, quiet, lambda: bar.advance(task))


def describe(done: Done) -> str:
    """One line: the image, its mask, its three most frequent classes."""
    shares = ", ".join(f"{name} {share:.1%}" for name, share in list(done.shares.items())[:3])
    return f"{done.image} -> {done.mask}: {shares}"


def _summarize(
    args: argparse.Namespace, done: list[Done], failed: list[tuple[Path, SegcError]], hybrid: str | None
) -> None:
    if args.json:
        errors = [{"image": str(path), **error.to_json()} for path, error in failed]
        images = [one.to_json() for one in done]
        content = {"bundle": str(args.bundle), "hybrid": hybrid, "images": images, "errors": errors}
        print(json.dumps(content, indent=2))
        return
    if done:
        what = "masks" if args.no_overlay else "masks and overlays"
        print(f"{what} of {len(done)} {'image' if len(done) == 1 else 'images'} are in {args.out.resolve()}")
    for line in grouped(failed):
        print(line, file=sys.stderr)


def grouped(failed: list[tuple[Path, SegcError]]) -> list[str]:
    """Errors of one kind together: what went wrong and what to do, then the images it happened to."""
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
