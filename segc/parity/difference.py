"""The difference of two arrays."""

from __future__ import annotations

import math

import numpy as np


def largest_difference(reference: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """The largest |difference| of two arrays of equal shape, and its ratio to the largest |reference|.

    If the largest |reference| is 0, the ratio is the difference. Elements that are not finite in both arrays do not
    count; if an element is not finite in one array only, both results are infinite.
    """
    a, b = (x if x.dtype.kind == "f" else x.astype(np.float64) for x in map(np.asarray, (reference, other)))
    finite = np.isfinite(a)
    if not np.array_equal(finite, np.isfinite(b)):
        return math.inf, math.inf
    if not finite.all():
        a, b = a[finite], b[finite]
    difference = float(np.abs(np.subtract(a, b, dtype=np.float64)).max(initial=0.0))
    scale = float(np.abs(a).max(initial=0.0))
    return difference, difference / scale if scale else difference
