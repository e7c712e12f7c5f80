"""Sample inputs: noise and the photograph shipped with segc, in the layout that a model or an engine takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib import resources

import numpy as np

Array = np.ndarray


def noise(shape: tuple[int, ...], *, images: bool = False) -> Array:
    """Noise from a fixed seed for an input of `shape` (N, C, H, W): standard normal, float32.

    images: uint8 (N, H, W, C) instead, uniformly distributed.
    """
    rng = np.random.default_rng(0)
    if images:
        return rng.integers(0, 256, (shape[0], *shape[2:], shape[1])).astype(np.uint8)
    return rng.standard_normal(shape).astype(np.float32)


def inputs(
    shape: tuple[int, int, int, int], mean: Sequence[float], std: Sequence[float], channel_order: str
) -> Iterator[tuple[str, Array]]:
    """Named inputs of `shape` (N, C, H, W): noise and, for three channels, the photograph, resized and normalized."""
    yield "noise", noise(shape)
    if shape[1] == 3:
        yield "natural image", natural_input(shape, mean, std, channel_order)


def image_inputs(shape: tuple[int, int, int, int]) -> Iterator[tuple[str, Array]]:
    """Named images, uint8 (N, H, W, 3) BGR, for a model with input `shape` (N, 3, H, W): noise and the photograph."""
    yield "noise", noise(shape, images=True)
    planes = natural_input(shape, (0, 0, 0), (1, 1, 1), "BGR")
    yield "natural image", np.ascontiguousarray(planes.transpose(0, 2, 3, 1)).astype(np.uint8)


def normalised(images: Array, mean: Sequence[float], std: Sequence[float], channel_order: str) -> Array:
    """Normalize uint8 (N, H, W, 3) BGR as segc's preprocessing does, to float32 (N, 3, H, W)."""
    planes = images[..., ::-1] if channel_order == "RGB" else images
    x = (planes.astype(np.float32) - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))


def of_images(
    reference: Callable[[Array], Array], mean: Sequence[float], std: Sequence[float], channel_order: str
) -> Callable[[Array], Array]:
    """The reference with normalization before it: it takes uint8 (N, H, W, 3) BGR."""
    return lambda images: reference(normalised(images, mean, std, channel_order))


def natural_input(
    shape: tuple[int, int, int, int], mean: Sequence[float], std: Sequence[float], channel_order: str
) -> Array:
    """The photograph as float32 (N, 3, H, W), normalized. Images with odd index in the batch are mirrored."""
    import cv2

    content = resources.files("segc").joinpath("data/natural.jpg").read_bytes()
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    image = cv2.resize(image, (shape[3], shape[2]), interpolation=cv2.INTER_LINEAR).astype(np.float32)
    image = image[..., ::-1] if channel_order == "RGB" else image
    planes = ((image - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)).transpose(2, 0, 1)
    return np.ascontiguousarray(np.stack([planes[..., :: 1 - 2 * (i % 2)] for i in range(shape[0])]), np.float32)
