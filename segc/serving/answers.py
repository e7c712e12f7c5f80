"""What a client gets for an image: a palette PNG, an overlay, or the classes as run-length codes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from segc.errors import Code, UsageError
from segc.runtime.engine import Engine
from segc.runtime.exports import run_lengths as run_lengths
from segc.runtime.image_errors import errors_of_images
from segc.runtime.segmentation import Segmentation


@dataclass(frozen=True)
class Answer:
    """The body and its media type."""

    content: bytes
    media_type: str


def answer(engine: Engine, content: bytes, kind: str, max_pixels: int) -> Answer:
    """Segment the image file with these bytes. kind: of KINDS. Raises SegcError."""
    with errors_of_images(Path("of the request")):
        image = engine.decode(content, name="of the request", max_pixels=max_pixels)
        return KINDS[kind](engine.segment(image), image)


def _mask(made: Segmentation, _image: np.ndarray) -> Answer:
    return Answer(made.png(), "image/png")


def _overlay(made: Segmentation, image: np.ndarray) -> Answer:
    good, png = cv2.imencode(".png", made.overlay(image))
    if not good:
        raise UsageError("the overlay cannot be written as PNG", code=Code.INPUT_TYPE)
    return Answer(png.tobytes(), "image/png")


def _rle(made: Segmentation, _image: np.ndarray) -> Answer:
    from segc.bundle.canonical_json import canonical

    return Answer(canonical(run_lengths(made)), "application/json")


KINDS: dict[str, Callable[[Segmentation, np.ndarray], Answer]] = {"mask": _mask, "overlay": _overlay, "rle": _rle}
