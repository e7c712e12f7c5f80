"""`segc.run`: write the masks of images as palette PNG files, and overlays."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segc import ranges
from segc.errors import Code, FileError, SegcError, UsageError
from segc.files import claims
from segc.files.names import is_folder, resolved
from segc.files.whole import write_all
from segc.suggestions import checked_keywords

if TYPE_CHECKING:
    from segc.runtime.engine import Engine
    from segc.runtime.images import ImageFile

_log = logging.getLogger(__name__)

DEFAULT_OUT = "segc-out"
OPACITY = 0.5  # of the overlay's colours
MAX_PIXELS = 1 << 29  # of an image: 23170 x 23170


@dataclass(frozen=True)
class SegmentedImage:
    """One segmented image. shares: the fraction of pixels of each class that occurs, largest first."""

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


@dataclass(frozen=True)
class RunResult:
    """The segmented images, and the errors of the others. hybrid: 'hybrid (...)' if two runtimes share the model."""

    bundle: Path
    out: Path
    target: str
    hybrid: str | None
    images: tuple[SegmentedImage, ...]
    errors: tuple[tuple[Path, SegcError], ...]

    def to_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        errors = [{"image": str(path), **error.to_json()} for path, error in self.errors]
        images = [image.to_json() for image in self.images]
        return {"bundle": str(self.bundle), "hybrid": self.hybrid, "images": images, "errors": errors}


Progress = Callable[[int, int, SegmentedImage | None], None]


@checked_keywords
def run(
    bundle: str | Path,
    images: str | Path | Sequence[str | Path],
    *,
    out: str | Path = DEFAULT_OUT,
    overlay: bool = True,
    direct: bool = False,
    opacity: float = OPACITY,
    threads: int = 0,
    max_pixels: int = MAX_PIXELS,
    public_key: str | Path | None = None,
    python: bool = False,
    progress: Progress = lambda *_: None,
) -> RunResult:
    """Segment images and folders of images: NAME_mask.png and NAME_overlay.png in `out`, as `segc run` does.

    overlay: write overlays too, their colours with `opacity` from 0 to 1. direct: resize small logits to the image in
    one step, where segc makes the mask. threads: of the runtime, 0 leaves the number to it. progress: called after each
    image with its number, the number of all, and the result, None for an image that cannot be used. max_pixels: images
    of more are not decoded. public_key: a key of minisign, as a file or in base64, that must have signed the bundle.
    An image that cannot be used does not stop the others: its error is in the result. Raises SegcError when none can be
    started. `segc.load` gives an Engine for arrays instead of files.
    """
    from segc.runtime.engine import load
    from segc.runtime.image_errors import errors_of_images
    from segc.runtime.images import find_images
    from segc.runtime.stream import in_order

    ranges.OPACITY.require("--opacity", opacity)
    ranges.PIXELS.require("--max-pixels", max_pixels)
    given = [images] if isinstance(images, str | Path) else list(images)
    found, folder = find_images(given), Path(out)
    _require_apart(folder, given, found)
    engine = load(bundle, threads=threads, public_key=public_key, python=python)
    _make_folder(folder)
    done: list[SegmentedImage] = []
    failed: list[tuple[Path, SegcError]] = []

    def outcome(image: ImageFile) -> SegmentedImage | SegcError:
        try:
            with errors_of_images(image.path):
                return segment_file(
                    engine, image, folder, overlay=overlay, opacity=opacity, direct=direct, max_pixels=max_pixels
                )
        except SegcError as error:
            return error

    for number, (image, result) in enumerate(zip(found, in_order(outcome, found), strict=True), 1):
        if isinstance(result, SegcError):
            _log.warning("%s is not segmented: %s", image.path, result.what)
            failed.append((image.path, result))
            progress(number, len(found), None)
        else:
            done.append(result)
            progress(number, len(found), result)
    made = engine.manifest
    return RunResult(Path(bundle), folder, made.target.name, made.hybrid, tuple(done), tuple(failed))


def segment_file(
    engine: Engine, image: ImageFile, out: Path, *, overlay: bool, opacity: float, direct: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> SegmentedImage:  # fmt: skip
    """Segment one image and write its mask and overlay into `out`. Raises SegcError.

    The file is decoded once. Memory beside what the engine takes: the file and, for 8 bits of colour, 6 bytes a pixel.
    """
    import cv2
    import numpy as np

    pixels = engine.read(image.path, max_pixels=max_pixels)
    result = engine.segment(pixels, direct=direct)
    mask, shown = out / f"{image.stem}_mask.png", out / f"{image.stem}_overlay.png"
    files = {mask: result.png()}
    if overlay:
        own = pixels if pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3 else None
        files[shown] = cv2.imencode(".png", result.overlay(pixels, opacity, out=own))[1].tobytes()
    write_all(files, durable=False)
    _log.info("segmented %s, mask in %s", image.path, mask)
    counts = sorted(((name, n) for name, n in result.counts().items() if n), key=lambda item: -item[1])
    shares = {name: round(n / result.mask.size, 6) for name, n in counts}
    height, width = result.mask.shape
    return SegmentedImage(image.path, mask, shown if overlay else None, (height, width), shares)


def _require_apart(out: Path, given: Iterable[str | Path], images: list[ImageFile]) -> None:
    """Refuse outputs that would replace an image or lie in a folder of images. Raises UsageError."""
    written = {resolved(out / f"{i.stem}_{kind}.png") for i in images for kind in ("mask", "overlay")}
    if own := sorted(str(i.path) for i in images if resolved(i.path) in written):
        raise UsageError(
            f"the output would replace the image {own[0]}",
            code=Code.OUTPUT_REPLACES_INPUT,
            so="choose another folder with -o",
        )
    if any(is_folder(path) and resolved(path) == resolved(out) for path in map(Path, given)):
        raise UsageError(
            f"{out} is a folder of images and cannot take the output",
            code=Code.OUTPUT_REPLACES_INPUT,
            because="the next run would segment the masks too",
            so="choose another folder with -o",
        )


def _make_folder(out: Path) -> None:
    """Make it where it is not there; what killed processes left in it is deleted."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for left in claims.left_over_in(out, ".png"):
            claims.remove(left)
    except (OSError, ValueError) as error:
        raise FileError(
            f"cannot create the folder {out}",
            code=Code.UNWRITABLE,
            because=getattr(error, "strerror", "") or str(error),
        ) from error
