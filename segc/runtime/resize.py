"""Bilinear resizing of logits with torch's numbers, in NumPy, a block of rows at a time.

A pixel of the output sits at r = (i + 1/2) * in/out - 1/2 of the input, clamped at 0 (align_corners:
r = i * (in - 1) / (out - 1)), and is (1 - w) * x[floor r] + w * x[floor r + 1], w = r - floor r; columns first, then
rows. torch works out r in float32, so that w is off by up to 1e-4 at column 2000. Those very numbers are reproduced
here: cv2.resize, more exact, differs from torch by 2e-4 on sides like 1333 and changes 2 pixels of 100,000.
Infinite and NaN logits give what they give in torch, but that a side which keeps its size is left alone: torch
multiplies by 1 and 0 there, which makes NaN of infinity.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
BLOCK_BYTES = 4 << 20  # of output logits; what measured best, and small enough for any image


class Rows(Protocol):
    """Logits (C, height, width) that are asked for rows in ascending order, each block once."""

    channels: int
    height: int
    width: int

    def rows(self, low: int, high: int) -> Floats:
        """Rows low to high, end excluded: float32 (C, high - low, width). `low` never goes back."""


class ArrayRows:
    """An array of logits as `Rows`."""

    def __init__(self, logits: Floats) -> None:
        self.logits = logits
        self.channels, self.height, self.width = logits.shape

    def rows(self, low: int, high: int) -> Floats:
        """A view."""
        return self.logits[:, low:high]


class ResizedRows:
    """Logits resized to `size` (H, W) and cropped to `kept` (height, width), as `Rows`; made when asked for."""

    def __init__(self, source: Rows, size: tuple[int, int], kept: tuple[int, int], align_corners: bool) -> None:
        self.channels = source.channels
        self.height, self.width = kept
        self._source = source
        self._keeps = source.height == size[0], source.width == size[1]
        self._down = taps(source.height, size[0], align_corners)
        low, high, weight = taps(source.width, size[1], align_corners)
        self._across = low[: self.width], high[: self.width], weight[: self.width]

    def rows(self, low: int, high: int) -> Floats:
        """Rows low to high, end excluded: float32 (C, high - low, width)."""
        above, below, weight = self._down
        above, below, weight = above[low:high], below[low:high], weight[low:high]
        first, last = int(above[0]), int(below[-1]) + 1
        block = self._source.rows(first, last)
        block = block[:, :, : self.width] if self._keeps[1] else lerp(block, *self._across, axis=2)
        return block if self._keeps[0] else lerp(block, above - first, below - first, weight, axis=1)


def resize(logits: Floats, size: tuple[int, int], align_corners: bool) -> Floats:
    """F.interpolate(logits, size, mode="bilinear"): float32 (C, h, w) to (C, H, W), size (H, W) in pixels."""
    if logits.shape[1:] == size:
        return logits
    out = np.empty((len(logits), *size), np.float32)
    for at, block in resized_blocks(ArrayRows(logits), size, align_corners):
        out[:, at] = block
    return out


def resize_argmax(logits: Floats | Rows, size: tuple[int, int], align_corners: bool) -> Mask:
    """The class of every pixel after `resize`, without holding (C, H, W): uint8 (H, W), uint16 above 256 channels.

    The lowest class wins ties, as in torch. Memory: one block of rows next to the input and the mask.
    """
    source = ArrayRows(logits) if isinstance(logits, np.ndarray) else logits
    mask = np.zeros(size, np.uint8 if source.channels <= 256 else np.uint16)
    with np.errstate(invalid="ignore"):  # 0 * inf is NaN, in torch too
        for at, block in resized_blocks(source, size, align_corners):
            argmax_into(mask[at], block)
    return mask


def argmax_into(mask: Mask, block: Floats) -> None:
    """block.argmax(axis=0) into a `mask` of zeros, ten times as fast.

    The last class that exceeds all before it is the largest, and the first of its equals. The first NaN wins.
    """
    best = block[0].copy()
    above = np.empty(mask.shape, np.bool_)
    number = np.empty_like(mask)
    for index in range(1, len(block)):
        np.greater(block[index], best, out=above)
        np.maximum(best, block[index], out=best)
        np.multiply(above.view(np.uint8), mask.dtype.type(index), out=number)
        np.maximum(mask, number, out=mask)
    if (unordered := np.isnan(best)).any():
        mask[unordered] = block[:, unordered].argmax(axis=0)


def resize_threshold(logits: Floats | Rows, size: tuple[int, int], align_corners: bool, threshold: float) -> Mask:
    """sigmoid(logit) > threshold after `resize`, for a head with one channel: uint8 (H, W) of 0 and 1."""
    source = ArrayRows(logits) if isinstance(logits, np.ndarray) else logits
    mask = np.empty(size, np.uint8)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):  # exp may become infinity: sigmoid is 0 then
        for at, block in resized_blocks(source, size, align_corners):
            mask[at] = 1 / (1 + np.exp(-block[0])) > np.float32(threshold)
    return mask


def resize_nearest(mask: Mask, size: tuple[int, int]) -> Mask:
    """Each pixel takes the value of the input pixel its centre falls into; (h, w) to `size` (H, W)."""
    if mask.shape == size:
        return mask
    rows, columns = ((2 * np.arange(out) + 1) * side // (2 * out) for side, out in zip(mask.shape, size, strict=True))
    resized: Mask = np.take(np.take(mask, rows, axis=0), columns, axis=1)
    return resized


def resized_blocks(source: Rows, size: tuple[int, int], align_corners: bool) -> Iterator[tuple[slice, Floats]]:
    """The resized logits as (output rows, float32 (C, rows, W)), from top to bottom."""
    height, width = size
    low, high, weight = taps(source.height, height, align_corners)
    across = taps(source.width, width, align_corners)
    step = max(1, BLOCK_BYTES // (4 * source.channels * width))
    for start in range(0, height, step):
        at = slice(start, min(start + step, height))
        first, last = int(low[at][0]), int(high[at][-1]) + 1
        block = source.rows(first, last)
        if source.width != width:
            block = lerp(block, *across, axis=2)
        if source.height != height:
            block = lerp(block, low[at] - first, high[at] - first, weight[at], axis=1)
        yield at, block


Taps = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Floats]


def taps(side: int, out: int, align_corners: bool) -> Taps:
    """Per output position the two input positions and the weight of the second, as torch computes them in float32."""
    if side == out:
        same = np.arange(out, dtype=np.intp)
        return same, same, np.zeros(out, np.float32)
    at = np.arange(out, dtype=np.float32)
    if align_corners:
        at32 = np.float32(side - 1) / np.float32(max(out - 1, 1)) * at
    else:  # torch's kernel fuses the multiplication and the subtraction: one rounding, hence float64 in between
        scale = np.float64(np.float32(side) / np.float32(out))
        at32 = np.maximum(scale * (at + np.float32(0.5)) - 0.5, 0).astype(np.float32)
    low = np.minimum(at32.astype(np.intp), side - 1)
    weight = np.clip(at32 - low.astype(np.float32), 0, 1).astype(np.float32)
    return low, np.minimum(low + 1, side - 1), weight


def lerp(x: Floats, low: npt.NDArray[np.intp], high: npt.NDArray[np.intp], weight: Floats, axis: int) -> Floats:
    """(1 - weight) * x[low] + weight * x[high] along `axis` of (C, h, w)."""
    along = weight if axis == 2 else weight[:, None]
    result = np.take(x, low, axis=axis)
    result *= 1 - along
    other = np.take(x, high, axis=axis)
    other *= along
    result += other
    return result
