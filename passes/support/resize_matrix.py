"""The arithmetic of ONNX's Resize along one axis, as a matrix: y = matrix @ x.

Cell i of the result reads at the coordinate

    half_pixel             (i + 0.5) / scale - 0.5
    half_pixel_symmetric   the same, plus size / 2 * (1 - out / (scale * size))
    pytorch_half_pixel     the same as half_pixel; 0 when out is 1
    align_corners          i * (size - 1) / (out - 1); 0 when out is 1
    asymmetric             i / scale

with scale = out / size unless the model gives one. nearest rounds that coordinate, linear and cubic weigh the 2 and 4
cells around it; cells beyond an edge are the edge's (or, with exclude_outside, weigh nothing). Weights are computed in
float64. Coordinates that nearest rounds are computed in float32, step by step as ONNX Runtime does it, so that those
which fall on a border between two cells go to the same side (of half_pixel_symmetric that is not known: a cell on a
border may go to either).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

COORDINATES = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric")
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
HALF = 1e-6  # this near to the middle between two cells counts as the middle, in ONNX Runtime too
MODES = ("nearest", "linear", "cubic")


def interpolation_matrix(
    size: int,
    out: int,
    mode: str,
    coordinates: str = "half_pixel",
    *,
    scale: float | None = None,
    rounding: str = "round_prefer_floor",
    cubic_coeff_a: float = -0.75,
    exclude_outside: bool = False,
) -> np.ndarray:
    """float64[out, size]; row i holds the weights of the cells that make cell i of the result.

    size, out: cells, at least 1. scale: that of the model, None for out / size. rounding: for nearest only.
    cubic_coeff_a, exclude_outside: for cubic only. Raises ValueError for an unknown mode, coordinate or rounding.
    """
    if mode == "nearest":
        return np.asarray(np.eye(size)[nearest_cells(size, out, coordinates, scale=scale, rounding=rounding)])
    if mode not in MODES:
        raise ValueError(f"mode '{mode}' is none of {', '.join(MODES)}")
    at = source(size, out, coordinates, scale, np.float64)
    if mode == "linear":
        at = np.clip(at, 0, size - 1)
    low = np.floor(at).astype(np.int64)
    weights = linear_weights(at - low) if mode == "linear" else cubic_weights(at - low, cubic_coeff_a)
    cells = low[:, None] + (np.arange(2) if mode == "linear" else np.arange(-1, 3))
    if exclude_outside and mode == "cubic":
        weights = np.where((cells < 0) | (cells >= size), 0, weights)
        weights = weights / weights.sum(axis=1, keepdims=True)
    matrix = np.zeros((out, size))
    np.add.at(matrix, (np.arange(out)[:, None], np.clip(cells, 0, size - 1)), weights)
    return matrix


def nearest_cells(
    size: int, out: int, coordinates: str = "half_pixel", *, scale: float | None = None, rounding: str = ROUNDINGS[0]
) -> np.ndarray:
    """int64[out]: the cell that each cell of the result copies."""
    at = source(size, out, coordinates, scale, np.float32)
    if rounding == "floor":
        cells = np.floor(at)
    elif rounding == "ceil":
        cells = np.ceil(at)
    elif rounding in ROUNDINGS:
        low = np.floor(at)
        past = at.astype(np.float64) - low - 0.5
        up = (past > HALF) | ((np.abs(past) <= HALF) & (rounding == "round_prefer_ceil"))
        cells = np.where(up, low + 1, low)
    else:
        raise ValueError(f"rounding '{rounding}' is none of {', '.join(ROUNDINGS)}")
    return np.asarray(np.clip(cells, 0, size - 1).astype(np.int64))


def source(size: int, out: int, coordinates: str, scale: float | None, dtype: Any) -> np.ndarray:
    """dtype[out]: where each cell of the result reads, before any clipping."""
    if coordinates not in COORDINATES:
        raise ValueError(f"coordinates '{coordinates}' are none of {', '.join(COORDINATES)}")
    i = np.arange(out, dtype=dtype)
    if coordinates == "align_corners":
        return np.asarray(i * dtype(size - 1) / dtype(max(out - 1, 1)))
    if coordinates == "pytorch_half_pixel" and out == 1:
        return np.zeros(1, dtype)
    factor = dtype(out) / dtype(size) if scale is None else dtype(scale)
    if coordinates == "asymmetric":
        return np.asarray(i / factor)
    offset = dtype(0)
    if coordinates == "half_pixel_symmetric":
        offset = dtype(size / 2) * (dtype(1) - dtype(out) / (factor * dtype(size)))
    return np.asarray(offset + (i + dtype(0.5)) / factor - dtype(0.5))


def linear_weights(part: np.ndarray) -> np.ndarray:
    """[n, 2]: weights of the cells below and above, for coordinates this far (0 <= part < 1) from the one below."""
    return np.stack([1 - part, part], axis=1)


def cubic_weights(part: np.ndarray, a: float) -> np.ndarray:
    """[n, 4]: Keys' cubic convolution for the cells at -1, 0, 1, 2 from the one below; torch's a is -0.75."""
    near = [((a + 2) * t - (a + 3)) * t * t + 1 for t in (part, 1 - part)]
    far = [((a * t - 5 * a) * t + 8 * a) * t - 4 * a for t in (part + 1, 2 - part)]
    return np.stack([far[0], near[0], near[1], far[1]], axis=1)


def output_size(size: int, scale: float) -> int:
    """The cells that ONNX's Resize makes of `size` by `scale`, a float32."""
    return math.floor(np.float32(size) * np.float32(scale))
