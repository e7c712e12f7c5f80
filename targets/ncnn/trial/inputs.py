"""What a fresh engine is tried on while it is emitted: noise, and the photograph where it takes images."""

from __future__ import annotations

import math

import numpy as np

from segc.parity import metrics
from segc.targets.ncnn.net.net import Net
from segc.targets.protocol import Images

SIDE = 256  # pixels of an image's side that is known at run time only
LEAST = 32
COLORS = 3


def inputs(net: Net, images: Images | None) -> list[np.ndarray]:
    """Batches of one. images: how the model wants its images, which may be far from noise; None: nobody knows."""
    x = noise(net)
    if images is None or x.ndim != 4 or x.shape[1] != COLORS:
        return [x]
    _, channels, height, width = x.shape
    return [x, metrics.natural_input((1, channels, height, width), images.mean, images.std, images.channel_order)]


def noise(net: Net) -> np.ndarray:
    """A batch of one for the net's input: float32, seeded, of about as many numbers as an image of `SIDE`.

    A segment of a network takes maps of many channels and fewer pixels: at an image's size they would take gigabytes.
    """
    sizes = net.layers[0].outputs[0].shape
    channels = sizes[0] if len(sizes) == 3 and sizes[0] else COLORS
    side = max(LEAST, LEAST * round(SIDE * math.sqrt(COLORS / channels) / LEAST))
    shape = (1, *(size or min(side, SIDE) for size in sizes))
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)
