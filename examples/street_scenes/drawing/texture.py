"""Colours and tileable noise."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from drawing.canvas import Floats, Paint, Rng


def rgb(red: float, green: float, blue: float) -> Floats:
    """float32 (3,), BGR in 0..1, of an RGB triple in 0..255."""
    return np.array([blue, green, red], np.float32) / 255


def pick(rng: Rng, colours: Sequence[Paint], jitter: float = 0.08) -> Floats:
    """A colour of the list, made a little lighter, darker or more tinted: float32 (3,) BGR."""
    base = rgb(*colours[int(rng.integers(len(colours)))])
    return np.clip(base * rng.uniform(1 - 2 * jitter, 1 + 2 * jitter) + rng.normal(0, jitter / 3, 3), 0.01, 1).astype(
        np.float32
    )


def tileable_noise(side: int, octaves: Sequence[int], seed: int) -> Floats:
    """float32 (side, side), wraps around, mean 0, mostly within -1..1; one term for each grid size in `octaves`."""
    rng = np.random.default_rng(seed)
    total = np.zeros((side, side), np.float32)
    for cells in octaves:
        grid = np.pad(rng.normal(size=(cells, cells)), 2, mode="wrap").astype(np.float32)
        scale = side // cells
        big = cv2.resize(grid, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        total += big[2 * scale : 2 * scale + side, 2 * scale : 2 * scale + side] / cells**0.5
    unit: Floats = (total / (2 * total.std())).astype(np.float32)
    return unit


SMOOTH = tileable_noise(512, (4, 8, 16, 32), seed=1)  # clouds, stains, clumps of leaves
ROUGH = tileable_noise(512, (16, 32, 64, 128, 256, 512), seed=2)  # asphalt, plaster, leaves


def sample(texture: Floats, x: Floats, y: Floats, scale: float) -> Floats:
    """Texture values at world coordinates; `scale` texels a metre; x and y broadcast."""
    side = texture.shape[0]  # a power of two, so that masking wraps
    value: Floats = texture[(y * scale).astype(np.int32) & (side - 1), (x * scale).astype(np.int32) & (side - 1)]
    return value


def shaded(colour: Floats, tone: Floats) -> Floats:
    """Brightness `tone` (h, w) times one colour (3,) or a picture (h, w, 3)."""
    product: Floats = colour * tone[..., None]
    return product


def between(value: Floats, low: float, high: float | Floats) -> NDArray[np.bool_]:
    """Elementwise low <= value < high."""
    return (value >= low) & (value < high)
