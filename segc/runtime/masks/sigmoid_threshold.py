"""Thresholds on probabilities as thresholds on logits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

SATURATES = 1e-5  # nearer to 0 or 1 than this, rounding of a float32 sigmoid decides


def cutoff(threshold: float, dtype: np.dtype[Any]) -> float | None:
    """The c with sigmoid(x) > threshold <=> x > c for every x of `dtype`; None where a float sigmoid saturates."""
    if threshold <= 0 or threshold >= 1:
        return math.copysign(math.inf, threshold - 0.5)
    if min(threshold, 1 - threshold) < max(SATURATES, float(np.finfo(dtype).eps)):
        return None
    exact = math.log(threshold) - math.log1p(-threshold)
    near = dtype.type(exact)
    return float(near if float(near) <= exact else np.nextafter(near, dtype.type(-np.inf)))
