"""The inputs of trial runs: noise, and a photograph where the engine takes images."""

from __future__ import annotations

import math

import numpy as np

from segc.parity import sample_inputs
from segc.targets.ncnn.net.net import Net
from segc.targets.protocol import Images

SIDE = 256  # pixels, for the sides of an image that are known at run time only
MIN_SIDE = 32
COLORS = 3


def trial_inputs(net: Net, images: Images | None) -> list[np.ndarray]:
    """Batches of one image: noise, and a photograph where `images` says how the model's images are normalised."""
    x = noise(net)
    if images is None or x.ndim != 4 or x.shape[1] != COLORS:
        return [x]
    _, channels, height, width = x.shape
    return [x, sample_inputs.natural_input((1, channels, height, width), images.mean, images.std, images.channel_order)]


def noise(net: Net) -> np.ndarray:
    """Seeded white noise for the net's input, float32 (1, ...), with about as many numbers as an image of `SIDE`.

    A segment of a network takes maps with many channels, which would take gigabytes at an image's height and width.
    """
    sizes = net.layers[0].outputs[0].shape
    channels = sizes[0] if len(sizes) == 3 and sizes[0] else COLORS
    side = max(MIN_SIDE, MIN_SIDE * round(SIDE * math.sqrt(COLORS / channels) / MIN_SIDE))
    shape = (1, *(size or min(side, SIDE) for size in sizes))
    return sample_inputs.noise(shape)
