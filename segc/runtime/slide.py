"""mmseg's sliding window: patches in a grid, logits averaged where they overlap.

The grid is mmseg's: the last row and column of patches are moved back inside. Sums are made in mmseg's order. Rows that
no later patch touches are handed on and dropped, so that one band of crop height is held instead of (C, H, W).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from segc.runtime.resize import Floats


def starts(side: int, crop: int, stride: int) -> list[int]:
    """Where patches begin along a side of `side` pixels; a side below the crop has one patch."""
    count = max(side - crop + stride - 1, 0) // stride + 1
    return [max(min(at * stride + crop, side) - crop, 0) for at in range(count)]


class SlidingRows:
    """The averaged logits of `x` as `segc.runtime.resize.Rows`; patches run when their rows are asked for.

    x: float32 (1, 3, H, W), of which rows and columns from `size` (height, width) on are padding.
    forward: float32 (1, 3, h, w) to logits (C, h, w).
    """

    def __init__(
        self,
        forward: Callable[[Floats], Floats],
        x: Floats,
        size: tuple[int, int],
        channels: int,
        crop: tuple[int, int],
        stride: tuple[int, int],
    ) -> None:
        self.channels = channels
        self.height, self.width = size
        self._forward, self._x, self._crop = forward, x, crop
        self._tops, self._lefts = (starts(x.shape[a + 2], crop[a], stride[a]) for a in (0, 1))
        self._next = 0  # number of the next grid row
        self._first = 0  # image row of the buffers' first row
        self._sums = np.zeros((channels, 0, x.shape[3]), np.float32)
        self._counts = np.zeros((0, x.shape[3]), np.float32)

    def rows(self, low: int, high: int) -> Floats:
        """Rows low to high, end excluded: float32 (C, high - low, width)."""
        self._drop(low)
        while self._next < len(self._tops) and self._tops[self._next] < high:
            self._run_grid_row()
        at = slice(low - self._first, high - self._first), slice(0, self.width)
        averaged: Floats = self._sums[:, *at] / self._counts[at]
        return averaged

    def _drop(self, low: int) -> None:
        gone = min(low - self._first, len(self._counts))
        self._sums, self._counts = self._sums[:, gone:], self._counts[gone:]
        self._first += gone

    def _run_grid_row(self) -> None:
        top = self._tops[self._next]
        bottom = min(top + self._crop[0], self._x.shape[2])
        self._grow(bottom - self._first)
        for left in self._lefts:
            patch = self._forward(self._x[:, :, top:bottom, left : left + self._crop[1]])
            skipped = max(self._first - top, 0)  # rows nobody will ask for again
            at = slice(max(top - self._first, 0), bottom - self._first), slice(left, left + patch.shape[2])
            self._sums[:, *at] += patch[:, skipped:]
            self._counts[at] += 1
        self._next += 1

    def _grow(self, rows: int) -> None:
        """Make the buffers `rows` long; copying also frees what `_drop` cut off."""
        more = max(rows - len(self._counts), 0)
        self._sums = np.pad(self._sums, ((0, 0), (0, more), (0, 0)))
        self._counts = np.pad(self._counts, ((0, more), (0, 0)))
