"""mmseg 1.2.2's test-time path from a BGR image to the network's input, bit for bit, in NumPy and OpenCV.

Resize (mmcv's, cv2 backend) works on uint8; then SegDataPreProcessor swaps the channels, computes (x - mean) / std in
float32 and pads to the right and bottom. One deviation: mmcv fails when keep_ratio rounds a side to 0, here it is 1.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from segc.bundle.manifest import Pad, Preprocessing, Resize
from segc.runtime.images import Image

Floats = npt.NDArray[np.float32]


def preprocess(image: Image, how: Preprocessing) -> tuple[Floats, tuple[int, int]]:
    """uint8 (H, W, 3) BGR to float32 (1, 3, H', W'), with the rows and columns of padding it ends in."""
    image = resized(image, how)
    height, width = image.shape[:2]
    bottom, right = padding((height, width), how.pad)
    x = np.empty((1, 3, height + bottom, width + right), np.float32)
    x[..., height:, :] = how.pad.value
    x[..., width:] = how.pad.value
    normalize(image, how, x[0, :, :height, :width])
    return x, (bottom, right)


def resized(image: Image, how: Preprocessing) -> Image:
    """The image at the size that the network is to see, before padding: uint8 (H', W', 3)."""
    if not how.resize:
        return image
    size = resized_size(image.shape[:2], how.resize)
    return np.asarray(cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR))


def resized_size(size: tuple[int, ...], resize: Resize) -> tuple[int, int]:
    """The (height, width) that mmcv's Resize gives an image of `size` (height, width)."""
    if not resize.keep_ratio:
        return resize.scale[1], resize.scale[0]
    factor = min(max(resize.scale) / max(size), min(resize.scale) / min(size))
    height, width = (max(1, int(side * factor + 0.5)) for side in size)
    return height, width


def normalize(image: Image, how: Preprocessing, out: Floats) -> None:
    """Write (channel - mean) / std into `out` (3, H, W), channels in the order of `how`."""
    for channel, (mean, std) in enumerate(zip(how.mean, how.std, strict=True)):
        source = 2 - channel if how.channel_order == "RGB" else channel
        np.subtract(image[..., source], np.float32(mean), out=out[channel], dtype=np.float32)
        out[channel] /= np.float32(std)


def padding(size: tuple[int, int], pad: Pad) -> tuple[int, int]:
    """Rows and columns that mmseg's stack_batch adds to (height, width)."""
    if pad.size:
        return max(pad.size[0] - size[0], 0), max(pad.size[1] - size[1], 0)
    divisor = pad.divisor or 1
    return -size[0] % divisor, -size[1] % divisor
