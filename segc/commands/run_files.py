"""One file of `segc.run`: an image segmented, and what is made of it written."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segc.files.whole import write_all

if TYPE_CHECKING:
    from segc.runtime.engine import Array, Engine
    from segc.runtime.images import ImageFile
    from segc.runtime.segmentation import Segmentation
    from segc.runtime.windows import Windows

_log = logging.getLogger(__name__)

MAX_PIXELS = 1 << 29  # of an image: 23170 x 23170


@dataclass(frozen=True)
class SegmentedImage:
    """One segmented image. shares: the fraction of pixels of each class that occurs, largest first.

    mask: the file of the mask, as `save` says; the overlay, where only that is written.
    """

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


def stamp(path: str | Path) -> str:
    """Of a file or a bundle as it is now."""
    path = Path(path)
    try:
        status = (path / "segc.json" if path.is_dir() else path).stat()
    except (OSError, ValueError):
        return f"{path}:missing"
    return f"{path}:{status.st_size}:{status.st_mtime_ns}"


def segment_file(
    engine: Engine, image: ImageFile, out: Path, *, overlay: bool, opacity: float, direct: bool = False,
    max_pixels: int = MAX_PIXELS, windows: Windows | None = None, save: str | None = None,
) -> SegmentedImage:  # fmt: skip
    """Segment one image, or its windows, and write into `out` what `save` says, or `overlay`. Raises SegcError.

    The file is decoded once. Memory beside what the engine takes: the file and, for 8 bits of colour, 6 bytes a pixel.
    """
    pixels = engine.read(image.path, max_pixels=max_pixels)
    return write_segmented(
        engine, pixels, image, out, overlay=overlay, opacity=opacity, direct=direct, windows=windows, save=save
    )


def write_segmented(
    engine: Engine, pixels: Array, image: ImageFile, out: Path, *, overlay: bool, opacity: float, direct: bool,
    windows: Windows | None = None, save: str | None = None,
) -> SegmentedImage:  # fmt: skip
    """What `segment_file` does with a decoded image, which the overlay may replace."""
    import cv2
    import numpy as np

    result = engine.segment(pixels, direct=direct) if windows is None else _in_windows(engine, pixels, windows)
    mask, files = _mask_file(result, out, image.stem, save or "both")
    shown = out / f"{image.stem}_overlay.png"
    if overlay:
        own = pixels if pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3 else None
        files[shown] = cv2.imencode(".png", result.overlay(pixels, opacity, out=own))[1].tobytes()
    write_all(files, durable=False)
    mask = mask or shown
    _log.info("segmented %s, mask in %s", image.path, mask)
    counts = sorted(((name, n) for name, n in result.counts().items() if n), key=lambda item: -item[1])
    shares = {name: round(n / result.mask.size, 6) for name, n in counts}
    height, width = result.mask.shape
    return SegmentedImage(image.path, mask, shown if overlay else None, (height, width), shares)


def _mask_file(result: Segmentation, out: Path, stem: str, save: str) -> tuple[Path | None, dict[Path, bytes]]:
    """The name and the content of the file of a mask; none for an overlay alone."""
    from segc.runtime import exports

    if save == "overlay":
        return None, {}
    known: dict[str, tuple[str, Callable[[], bytes]]] = {
        "npz": ("mask.npz", lambda: exports.npz(result)),
        "rle": ("rle.json", lambda: exports.line(exports.run_lengths(result))),
        "polygons": ("polygons.geojson", lambda: exports.line(exports.polygons(result))),
    }
    name, content = known.get(save, ("mask.png", result.png))
    path = out / f"{stem}_{name}"
    return path, {path: content()}


def _in_windows(engine: Engine, pixels: Array, windows: Windows) -> Segmentation:
    """The image of a file that is in memory, segmented in windows."""
    from segc.runtime.segmentation import Segmentation
    from segc.runtime.windows import ArrayPicture, WindowedMask

    mask = WindowedMask(engine, ArrayPicture(pixels), windows).whole()
    return Segmentation(mask, engine.manifest.classes, engine.manifest.palette)
