"""Which output of a model is the segmentation, and which axis of it is what: decided from names and shapes."""

from __future__ import annotations

import re
from collections.abc import Sequence

VALUES = ("logits", "probabilities", "classes")  # what an output may hold, for `--output-values`

_NAMED = re.compile(r"(?<![a-z])(out|outputs?|logits?|preds?|predictions?|seg|segmentation|masks?)(?![a-z])")
_SIDE = re.compile(r"aux|edge|bound|loss|feat|embed|side|deep")
_DEEPEST = 64  # times that an output may be smaller than the image


def rank(name: str, shape: Sequence[int | None] | None, size: tuple[int, int], place: int) -> tuple[bool, ...] | None:
    """A key by which the segmentation sorts first among outputs; None for what is no map.

    By name no side output, of the image's size, named as one does; `place` among the outputs decides the rest.
    """
    if shape is not None and not is_map(shape, size):
        return None
    low = name.lower()
    full = shape is not None and any(
        tuple(shape[at : at + 2]) == size for at in range(max(0, len(shape) - 3), len(shape) - 1)
    )
    return (bool(_SIDE.search(low)), not full, not _NAMED.search(low), place > 0)


def is_map(shape: Sequence[int | None], size: tuple[int, int]) -> bool:
    """Whether an output of this shape may be a map of the image: 3 or 4 axes, or its height and width alone."""
    return len(shape) in (3, 4) or (len(shape) == 2 and _fits(shape, size))


def channel_axis(shape: Sequence[int | None], size: tuple[int, int]) -> int | None:
    """The axis of channels in an output of 4 axes, 1 or 3, or of 3 axes, 0 or 2; None where neither fits.

    size: (height, width) of the input that gave it. The output may be smaller by a whole factor, rounded either way.
    """
    if len(shape) == 4:
        return 1 if _fits(shape[2:4], size) else 3 if _fits(shape[1:3], size) else None
    if len(shape) == 3:
        return 0 if _fits(shape[1:3], size) else 2 if _fits(shape[0:2], size) else None
    return None


def _fits(sides: Sequence[int | None], size: tuple[int, int]) -> bool:
    """Whether these sides are the image's, divided by one factor; sides that are not known fit."""
    if None in sides:
        return all(side is None for side in sides)
    return any(
        all(side in (full // by, -(-full // by)) for side, full in zip(sides, size, strict=True))
        for by in range(1, _DEEPEST + 1)
    )
