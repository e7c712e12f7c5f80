"""The result of segmenting one image."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from segc import ranges
from segc.errors import Code, MissingPackageError, ShapeError, UsageError
from segc.files.whole import write_whole
from segc.runtime.images import Image, eight_bits
from segc.runtime.resize import Mask

_ROWS = 256  # worked on at a time


@dataclass(frozen=True, eq=False)
class Segmentation:
    """mask: class numbers (H, W), uint8 or above 256 classes uint16; palette: RGB, one a class."""

    mask: Mask
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]

    def save(self, path: Path | str) -> None:
        """Write a PNG: class numbers with a palette (mode P), for uint16 16-bit grey. Raises FileError, UsageError."""
        if Path(path).suffix.lower() != ".png":
            raise UsageError(
                f"cannot save the mask as {path}",
                code=Code.OUTPUT_REPLACES_INPUT,
                because="masks are PNG files",
                so="use a name in .png",
            )
        write_whole(Path(path), self.png(), durable=False)

    def png(self) -> bytes:
        """What `save` writes."""
        try:
            from PIL import Image as Pillow
        except ModuleNotFoundError as error:
            raise MissingPackageError(
                "saving masks needs Pillow", code=Code.OPTIONAL_PACKAGE, so="pip install pillow"
            ) from error
        image, content = Pillow.fromarray(self.mask), io.BytesIO()
        if self.mask.dtype == np.uint8:  # all 256 colours, or Pillow packs few classes into fewer bits than a byte
            image.putpalette(self._colours(256).tobytes())
        image.save(content, "PNG")
        return content.getvalue()

    def overlay(self, image: npt.NDArray[np.generic], opacity: float = 0.5, *, out: Image | None = None) -> Image:
        """The image, as given to `segment`, under the classes' colours: uint8 (H, W, 3) BGR. opacity: 0 to 1.

        out: an array of the result's shape to write to; it may be the image itself.
        """
        ranges.OPACITY.require("opacity", opacity)
        if image.shape[:2] != self.mask.shape:
            raise ShapeError(f"the image has shape {image.shape}, the mask {self.mask.shape}", code=Code.INPUT_SHAPE)
        if image.dtype not in (np.uint8, np.uint16):
            image = eight_bits(image)  # stretched as a whole, not strip by strip
        colours = np.ascontiguousarray(self._colours(256**self.mask.itemsize)[:, ::-1])
        shown = np.empty((*self.mask.shape, 3), np.uint8) if out is None else out
        for at in range(0, len(self.mask), _ROWS):  # in strips: the colours of a whole image are as large as it is
            rows = slice(at, at + _ROWS)
            under = eight_bits(image[rows])
            shown[rows] = cv2.addWeighted(under, 1 - opacity, colours[self.mask[rows]], opacity, 0)
        return shown

    def counts(self) -> dict[str, int]:
        """Pixels of every class, absent ones included; a number without a name is called "class N"."""
        pixels = np.zeros(65536, np.int64)
        for at in range(0, len(self.mask), _ROWS):
            pixels += np.bincount(self.mask[at : at + _ROWS].ravel(), minlength=65536)
        present = np.flatnonzero(pixels)
        known = max(len(self.classes), int(present[-1]) + 1 if present.size else 0)
        result: dict[str, int] = {}
        for number in range(known):
            name = self.classes[number] if number < len(self.classes) else f"class {number}"
            result[name] = result.get(name, 0) + int(pixels[number])
        return result

    def _colours(self, count: int) -> npt.NDArray[np.uint8]:
        """The palette, filled up with black: uint8 (count, 3) RGB."""
        colours = np.zeros((count, 3), np.uint8)
        colours[: len(self.palette)] = self.palette
        return colours
