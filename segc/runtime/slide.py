"""mmseg's sliding window: patches in a grid, logits averaged where they overlap.

The grid is mmseg's: the last row and column of patches are moved back inside. Sums are made in mmseg's order. Rows that
no later patch touches are handed on and dropped, so that one band of crop height is held instead of (C, H, W); of a
picture larger than memory, a band of some of its columns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from segc.runtime.resize import Floats


def starts(side: int, crop: int, stride: int) -> list[int]:
    """Where patches begin along a side of `side` pixels; a side below the crop has one patch."""
    count = max(side - crop + stride - 1, 0) // stride + 1
    return [max(min(at * stride + crop, side) - crop, 0) for at in range(count)]


class Patches(Protocol):
    """What patches are cut from: an array (1, C, H, W), or something that reads the patch it is asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(1, C, H, W)."""

    def __getitem__(self, at: tuple[slice, slice, slice, slice], /) -> Floats:
        """float32 (1, C, h, w)."""


class SlidingRows:
    """The averaged logits of `x` as `segc.runtime.resize.Rows`; patches run when their rows are asked for.

    x: float32 (1, 3, H, W), of which rows and columns from `size` (height, width) on are padding.
    forward: float32 (1, 3, h, w) to logits (C, h, w). columns: the first and the end of those that are given, all by
    default; patches that touch none of them do not run.
    """

    def __init__(
        self,
        forward: Callable[[Floats], Floats],
        x: Patches,
        size: tuple[int, int],
        channels: int,
        crop: tuple[int, int],
        stride: tuple[int, int],
        columns: tuple[int, int] | None = None,
    ) -> None:
        self.channels = channels
        first, end = columns or (0, size[1])
        self.height, self.width = size[0], end - first
        self._forward, self._x, self._crop = forward, x, crop
        self._tops, lefts = (starts(x.shape[a + 2], crop[a], stride[a]) for a in (0, 1))
        self._lefts = [left for left in lefts if left < end and left + crop[1] > first]
        self._next = 0  # number of the next grid row
        self._first = 0  # image row of the buffers' first row
        self._left = self._lefts[0]  # image column of the buffers' first column
        self._columns = slice(first - self._left, end - self._left)
        width = min(self._lefts[-1] + crop[1], x.shape[3]) - self._left
        self._sums = np.zeros((channels, 0, width), np.float32)
        self._counts = np.zeros((0, width), np.float32)

    def rows(self, low: int, high: int) -> Floats:
        """Rows low to high, end excluded: float32 (C, high - low, width)."""
        self._drop(low)
        while self._next < len(self._tops) and self._tops[self._next] < high:
            self._run_grid_row()
        at = slice(low - self._first, high - self._first), self._columns
        averaged: Floats = self._sums[:, *at] / self._counts[at]
        return averaged

    def _drop(self, low: int) -> None:
        gone = min(low - self._first, len(self._counts))
        self._sums, self._counts = self._sums[:, gone:], self._counts[gone:]
        self._first += gone
        if not len(self._counts):
            self._first = low
            while self._next < len(self._tops) - 1 and self._tops[self._next] + self._crop[0] <= low:
                self._next += 1  # nobody will ask for any of its rows

    def _run_grid_row(self) -> None:
        top = self._tops[self._next]
        bottom = min(top + self._crop[0], self._x.shape[2])
        self._grow(bottom - self._first)
        for left in self._lefts:
            whole = slice(None)
            patch = self._forward(self._x[whole, whole, top:bottom, left : left + self._crop[1]])
            skipped = max(self._first - top, 0)  # rows nobody will ask for again
            begin = left - self._left
            at = slice(max(top - self._first, 0), bottom - self._first), slice(begin, begin + patch.shape[2])
            self._sums[:, *at] += patch[:, skipped:]
            self._counts[at] += 1
        self._next += 1

    def _grow(self, rows: int) -> None:
        """Make the buffers `rows` long; copying also frees what `_drop` cut off."""
        kept = len(self._counts)
        sums, counts = self._sums, self._counts
        self._sums = np.zeros((self.channels, max(rows, kept), sums.shape[2]), np.float32)
        self._counts = np.zeros(self._sums.shape[1:], np.float32)
        self._sums[:, :kept], self._counts[:kept] = sums, counts
