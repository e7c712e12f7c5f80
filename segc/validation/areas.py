"""Counts of pixels, by class: all that the scores of a segmentation are made of."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Areas = npt.NDArray[np.int64]  # (classes, 2, 3): away from and near boundaries; equal, predicted, labelled pixels
AWAY, NEAR = 0, 1
EQUAL, PREDICTED, LABELLED = 0, 1, 2
Map = npt.NDArray[np.integer]


def areas_of(mask: Map, label: Map, classes: int, ignore_index: int, band: int) -> Areas:
    """The areas of one image. mask, label: class numbers (H, W). band: the width of the boundary band in pixels.

    As mmseg counts: pixels that are labelled `ignore_index` do not count at all; those of another label that is no
    class count as predicted.
    """
    counted = label != ignore_index
    near = boundary_band(label, ignore_index, band)[counted].astype(np.int64)
    mask, label = (np.minimum(values[counted].astype(np.int64), classes) for values in (mask, label))
    predicted, labelled = 2 * mask + near, 2 * label + near
    equal = mask == label
    parts = (labelled[equal], predicted, labelled)
    counts = [np.bincount(part, minlength=2 * classes + 2).reshape(-1, 2)[:classes] for part in parts]
    return np.stack(counts, axis=-1).astype(np.int64)


def boundary_band(label: Map, ignore_index: int, width: int) -> npt.NDArray[np.bool_]:
    """Pixels less than `width` rows and columns away from a pixel beside another class; ignored ones are no class."""
    beside = np.zeros(label.shape, np.uint8)
    for first, second in (((slice(None), slice(1, None)), (slice(None), slice(-1))), (slice(1, None), slice(-1))):
        a, b = label[first], label[second]
        differ = (a != b) & (a != ignore_index) & (b != ignore_index)
        beside[first] |= differ
        beside[second] |= differ
    if width > 1:
        beside = np.asarray(cv2.dilate(beside, np.ones((2 * width - 1, 2 * width - 1), np.uint8)))
    return beside.astype(bool)


def unknown_labels(label: Map, classes: int, ignore_index: int) -> dict[int, int]:
    """Pixels of each label that is neither a class nor ignored."""
    values, counts = np.unique(label[(label >= classes) & (label != ignore_index)], return_counts=True)
    return {int(value): int(count) for value, count in zip(values, counts, strict=True)}


def packed(areas: Areas) -> dict[str, list[int]]:
    """As JSON: classes that occur only."""
    return {str(at): areas[at].ravel().tolist() for at in np.flatnonzero(areas.any(axis=(1, 2))).tolist()}


def unpacked(rows: dict[str, list[int]], classes: int) -> Areas:
    """What `packed` was made of. Raises ValueError, IndexError or TypeError for anything else."""
    areas = np.zeros((classes, 2, 3), np.int64)
    for number, row in rows.items():
        areas[int(number)] = np.asarray(row, np.int64).reshape(2, 3)
    return areas
