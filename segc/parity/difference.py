"""How far two arrays are apart."""

from __future__ import annotations

import math

import numpy as np


def largest_difference(reference: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Largest |difference| of two arrays of one shape, and that over the largest |reference| (over 1 where it is 0).

    Both are infinite where NaN and infinity do not stand in the same places; where they do they do not count.
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
