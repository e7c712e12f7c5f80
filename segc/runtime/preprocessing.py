"""mmseg 1.2.2's test-time path from a decoded image to the network's input, bit for bit, in NumPy and OpenCV.

The steps of the test pipeline work on the image as it was decoded; then SegDataPreProcessor swaps the channels,
computes (x - mean) / std in float32 and pads to the right and bottom.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from segc.bundle.preprocessing import Pad, Preprocessing
from segc.errors import Code, ShapeError, UsageError
from segc.runtime.own_transforms import Own
from segc.runtime.transforms import Array, apply

Floats = npt.NDArray[np.float32]


def preprocess(image: Array, how: Preprocessing, own: Own | None = None) -> tuple[Floats, tuple[int, int]]:
    """An image (H, W) or (H, W, c) to float32 (1, C, H', W'), with the rows and columns of padding it ends in.

    C is the length of `how.mean`; an image of one channel goes into all of them. Raises ShapeError for other channels.
    own: functions of the steps that are Python classes.
    """
    image = apply(image, how.chain, own)
    height, width = image.shape[:2]
    bottom, right = padding((height, width), how.pad)
    x = np.empty((1, len(how.mean), height + bottom, width + right), np.float32)
    x[..., height:, :] = how.pad.value
    x[..., width:] = how.pad.value
    normalize(image, how, x[0, :, :height, :width])
    return x, (0, 0) if how.pad.kept else (bottom, right)


def resized(image: Array, how: Preprocessing, own: Own | None = None) -> Array:
    """The image at the size that the network is to see, before normalization: (H', W', 3)."""
    return apply(image, how.chain, own)


def normalize(image: Array, how: Preprocessing, out: Floats) -> None:
    """Write (channel - mean) / std into `out` (C, H, W), channels in the order of `how`."""
    planes = image[..., None] if image.ndim == 2 else image
    have, channels = planes.shape[2], len(how.mean)
    if have not in (1, channels):
        raise ShapeError(
            f"the image has {have} channel{'s' * (have != 1)}, the model takes {channels}",
            code=Code.INPUT_SHAPE,
            so=f"give images of {channels} channel{'s' * (channels != 1)}, as the model was trained on",
        )
    swap = how.channel_order == "RGB" and have == 3
    for channel, (mean, std) in enumerate(zip(how.mean, how.std, strict=True)):
        plane = planes[..., 0 if have == 1 else 2 - channel if swap else channel]
        if how.table is not None:
            out[channel] = _looked_up(plane, how.table[channel])
            continue
        np.subtract(plane, np.float32(mean), out=out[channel], dtype=np.float32, casting="unsafe")
        out[channel] /= np.float32(std)


def padding(size: tuple[int, int], pad: Pad) -> tuple[int, int]:
    """Rows and columns that mmseg's stack_batch adds to (height, width)."""
    if pad.size:
        return max(pad.size[0] - size[0], 0), max(pad.size[1] - size[1], 0)
    divisor = pad.divisor or 1
    return -size[0] % divisor, -size[1] % divisor


def _looked_up(plane: Array, table: tuple[float, ...]) -> Floats:
    if plane.dtype != np.uint8:
        raise UsageError(
            f"the image is {plane.dtype}, the model's preprocessing is known for 8 bits only", code=Code.INPUT_TYPE
        )
    return np.asarray(table, np.float32)[plane]
