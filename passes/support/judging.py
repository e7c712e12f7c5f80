"""Judge masks: by the share of pixels that keep their class and, where images have labels, by the mIoU that is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

IGNORED = -1  # in labels: a pixel that does not count


@dataclass(frozen=True)
class Outcome:
    """agreement: the least share of pixels of an image that keep their class.

    drop: points of mIoU lost, of all images together, or None without labels.
    """

    agreement: float
    drop: float | None = None


@dataclass(frozen=True, eq=False)
class Judge:
    """Limits, and the labels (N, H, W) of the images that masks are made of; IGNORED for pixels that do not count.

    agreement: the least share of pixels of each image. max_drop: points of mIoU, or None for any.
    """

    agreement: float
    labels: Sequence[Any] = ()
    max_drop: float | None = None

    def outcome(self, expected: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> Outcome:
        """What changed from the masks `expected` to the masks `found`, both (N, H, W) for each image."""
        agreement = min(float((a == b).mean()) for a, b in zip(expected, found, strict=True))
        if not self.labels or len(found) != len(self.labels):
            return Outcome(agreement)
        return Outcome(agreement, 100 * (mean_iou(self.labels, expected) - mean_iou(self.labels, found)))

    def good(self, outcome: Outcome) -> bool:
        """Whether the limits are kept."""
        kept = self.max_drop is None or outcome.drop is None or outcome.drop <= self.max_drop
        return kept and outcome.agreement >= self.agreement

    def better(self, one: Outcome, other: Outcome) -> bool:
        """Whether the first is nearer to the limits: by mIoU where that is limited, otherwise by pixels."""
        if self.max_drop is not None and one.drop is not None and other.drop is not None:
            return one.drop < other.drop
        return one.agreement > other.agreement


def mean_iou(labels: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> float:
    """The mean, over the classes that occur, of intersection / union of all images together."""
    classes = 1 + max(int(a.max(initial=0)) for a in (*labels, *masks))
    counts = np.zeros((classes, classes), np.int64)
    for label, mask in zip(labels, masks, strict=True):
        counted = label >= 0
        pairs = label[counted].astype(np.int64) * classes + mask[counted].astype(np.int64)
        counts += np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    equal = np.diag(counts)
    union = counts.sum(0) + counts.sum(1) - equal
    occurring = union > 0
    return float((equal[occurring] / union[occurring]).mean()) if occurring.any() else 0.0
