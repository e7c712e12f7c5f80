"""What rounding costs on labelled images: the masks of the engine and of the reference against the labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segc.parity import metrics
from segc.validation.areas import areas_of
from segc.validation.scores import Column, column

BAND = 3  # pixels on either side of a boundary
_IGNORED = 1 << 16  # no class and no label has this number
Run = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class LabelScores:
    """before: of the reference; after: of the engine. limit: points of mIoU that may be lost, or None."""

    before: Column
    after: Column
    images: int
    limit: float | None

    @property
    def drop(self) -> float:
        """Points of mIoU that are lost; negative where the engine is better."""
        return 100 * ((self.before.overall.m_iou or 0.0) - (self.after.overall.m_iou or 0.0))

    @property
    def failures(self) -> list[str]:
        """A sentence where more is lost than the limit allows."""
        if self.limit is None or self.drop <= self.limit:
            return []
        return [
            f"mIoU of {self.images} labelled images drops from {100 * (self.before.overall.m_iou or 0):.2f} to"
            f" {100 * (self.after.overall.m_iou or 0):.2f}, by {self.drop:.2f} points, limit {self.limit:g}"
        ]

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON; IoU of each class and of the boundary band, from 0 to 1."""
        pairs = zip(self.before.overall.classes, self.after.overall.classes, strict=True)
        return {
            "images": self.images,
            "limit": self.limit,
            "drop": self.drop,
            "miou": [self.before.overall.m_iou, self.after.overall.m_iou],
            "boundary_miou": [self.before.boundary.m_iou, self.after.boundary.m_iou],
            "classes": [{"name": a.name, "iou": [a.iou, b.iou]} for a, b in pairs],
        }


class Watched:
    """A function of inputs that remembers the masks of its results."""

    def __init__(self, run: Run, threshold: float | None) -> None:
        self._run, self._threshold = run, threshold
        self._masks: dict[int, np.ndarray] = {}

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """What the function gives."""
        y = self._run(x)
        mask = metrics.mask_of(y, self._threshold) if y.ndim == 4 else y
        self._masks[hash(x.tobytes())] = mask.astype(np.uint16)
        return y

    def mask(self, x: np.ndarray) -> np.ndarray:
        """The mask (N, H, W) of an input; runs it unless it was run."""
        key = hash(x.tobytes())
        if key not in self._masks:
            self(x)
        return self._masks[key]


def score(
    reference: Watched, engine: Watched, images: Sequence[np.ndarray], labels: Sequence[np.ndarray],
    classes: Sequence[str], words: str, limit: float | None,
) -> LabelScores:  # fmt: skip
    """labels: (N, H, W) of each image, negative for pixels that do not count. words: of the engine."""
    totals = [np.zeros((len(classes), 2, 3), np.int64) for _ in range(2)]
    for x, label in zip(images, labels, strict=True):
        counted = np.where((label < 0) | (label >= len(classes)), _IGNORED, label)
        for total, run in zip(totals, (reference, engine), strict=True):
            for mask, one in zip(run.mask(x), counted, strict=True):
                total += areas_of(mask, one, len(classes), _IGNORED, BAND)
    before, after = (
        column(name, name, areas, classes) for name, areas in zip(("reference", words), totals, strict=True)
    )
    return LabelScores(before, after, len(images), limit)
