"""The noise on which a fresh engine is tried while it is emitted."""

from __future__ import annotations

import math

import numpy as np

from segc.targets.ncnn.net import Net

SIDE = 256  # pixels of an image's side that is known at run time only
LEAST = 32
COLORS = 3


def noise(net: Net) -> np.ndarray:
    """A batch of one for the net's input: float32, seeded, of about as many numbers as an image of `SIDE`.

    A segment of a network takes maps of many channels and fewer pixels: at an image's size they would take gigabytes.
    """
    sizes = net.layers[0].outputs[0].shape
    channels = sizes[0] if len(sizes) == 3 and sizes[0] else COLORS
    side = max(LEAST, LEAST * round(SIDE * math.sqrt(COLORS / channels) / LEAST))
    shape = (1, *(size or min(side, SIDE) for size in sizes))
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)
