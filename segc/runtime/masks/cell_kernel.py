"""The compiled kernel behind segc.runtime.masks: bilinear resize and argmax, cell by cell.

A cell is what all output pixels with the same input neighbours make up: `taps` x `taps` input pixels, its corners, at
rows y, y + 1, ... and columns x, x + 1, ..., clamped to the map. A pixel is a mean of the corners with weights >= 0.

- Where one class wins at every corner of a cell, it wins in all of the cell.
- Elsewhere only classes whose largest corner reaches the largest, over the winners of the corners, of the smallest
  corner can win; they alone are interpolated. In rows of cells where too many can, all classes are, vectorised.

Rounding is monotone, so that a class this leaves out has at most the computed value of the one chosen: the kernel
differs from interpolating every class only where rounding makes two classes equal, and then it may choose the class
with the truly larger value, where argmax chooses the lower number. Between equal candidates the lower number wins.

Infinite and NaN logits obey neither bound (0 * inf is NaN, and NaN wins in torch): rows of cells that see one are
interpolated for all classes, and the first NaN wins.

Weights come as tuples, one array a tap, so that the number of taps is known when the kernel is compiled. Only numbers
and arrays here: this module is compiled by numba, and imported only where numba is.
"""

from __future__ import annotations

import numpy as np

from segc.runtime.masks.dense_kernel import GROUP, TILE, Array, Weights, dense_rows, ordered
from segc.runtime.masks.jit import compiled

DENSE = 30  # all classes are interpolated where candidates are more than 1 / DENSE of them
BLOCK = 64  # output rows that are done together where all classes are interpolated
SAMPLE = 8  # mixed cells of a row that are tried first


@compiled
def winners(x: Array, row: int, best: Array, win: Array, spoilt: Array) -> bool:
    """The winner of every pixel of an input row into `win`; whether all logits of the row are finite.

    x: float32 (C, h, w); best, win, spoilt: float32, int32 and float32 of w, overwritten.
    """
    width = x.shape[2]
    for i in range(width):
        best[i] = x[0, row, i]
        spoilt[i] = best[i] * np.float32(0)
        win[i] = 0
    for c in range(1, x.shape[0]):
        for i in range(width):
            v = x[c, row, i]
            spoilt[i] += v * np.float32(0)
            above = v > best[i]
            best[i] = v if above else best[i]
            win[i] = c if above else win[i]
    finite = True
    for i in range(width):
        finite &= spoilt[i] == np.float32(0)  # NaN where one logit was not finite
    return finite


@compiled
def across(x: Array, c: int, row: int, low: Array, weight: Weights, start: int, stop: int, out: Array) -> None:
    """Output columns start to stop of input row `row` of class c, interpolated along the row, into `out`."""
    last = x.shape[2] - 1
    for i in range(start, stop):
        total = x[c, row, low[i]] * weight[0][i]
        for k in range(1, len(weight)):
            total += x[c, row, min(low[i] + k, last)] * weight[k][i]
        out[i - start] = total


@compiled
def mixed_cells(win: Array, down: Weights, cells: Array, columns: Array, line: Array, mixed: Array) -> int:
    """Write the winner of every cell whose corners agree into `line`; number the others in `mixed`, return how many.

    win: int32 (taps, w), winners of the rows of corners; cells: first input column of each; columns: their first output
    column, and the end.
    """
    last, found = win.shape[1] - 1, 0
    for j in range(len(cells)):
        first = win[0, cells[j]]
        same = True
        for m in range(len(down)):
            at = min(cells[j] + m, last)
            for k in range(len(down)):
                same &= win[k, at] == first
        if same:
            for i in range(columns[j], columns[j + 1]):
                line[i] = first
        else:
            mixed[found] = j
            found += 1
    return found


@compiled
def bounds(x: Array, c: int, y: int, at: int, down: Weights) -> tuple[float, float]:
    """The smallest and the largest corner of class c in the cell at (y, at)."""
    high, wide = x.shape[1] - 1, x.shape[2] - 1
    least = most = x[c, y, at]
    for p in range(len(down)):
        for q in range(len(down)):
            v = x[c, min(y + p, high), min(at + q, wide)]
            least = v if v < least else least
            most = v if v > most else most
    return least, most


@compiled
def candidates(
    x: Array, y: int, win: Array, down: Weights, cells: Array, mixed: Array, count: int,
    floor: Array, able: Array, length: Array,
) -> int:  # fmt: skip
    """The classes that can win in each of the first `count` cells of `mixed`; returns how many in all.

    able: int32 (w, C + 1), of which `length` (w) are filled, ascending; floor: float32 (w), overwritten.
    """
    wide, total = x.shape[2] - 1, 0
    for n in range(count):
        at = cells[mixed[n]]
        floor[n], length[n] = -np.inf, 0
        for m in range(len(down)):
            for k in range(len(down)):
                least, _ = bounds(x, win[k, min(at + m, wide)], y, at, down)
                floor[n] = max(floor[n], least)
    for c in range(x.shape[0]):
        for n in range(count):
            _, most = bounds(x, c, y, cells[mixed[n]], down)
            able[n, length[n]] = c
            length[n] += most >= floor[n]
    for n in range(count):
        total += length[n]
    return total


@compiled
def fill_cell(
    x: Array, y: int, at: int, begin: int, end: int, start: int, stop: int, down: Weights, weight: Weights,
    able: Array, out: Array,
) -> None:  # fmt: skip
    """The pixels of the mixed cell at (y, at), rows begin to end and columns start to stop, from the classes `able`."""
    high, wide = x.shape[1] - 1, x.shape[2] - 1
    flat = np.empty(len(down), np.float32)
    best = np.empty(GROUP, np.float32)
    win = np.empty(GROUP, np.int32)
    for i in range(start, stop):
        best[:] = -np.inf
        win[:] = able[0]
        for n in range(len(able)):
            for k in range(len(down)):
                row = min(y + k, high)
                total = x[able[n], row, at] * weight[0][i]
                for m in range(1, len(weight)):
                    total += x[able[n], row, min(at + m, wide)] * weight[m][i]
                flat[k] = total
            for r in range(begin, end):
                value = flat[0] * down[0][r]
                for k in range(1, len(down)):
                    value += flat[k] * down[k][r]
                above = value > best[r - begin]
                best[r - begin] = value if above else best[r - begin]
                win[r - begin] = able[n] if above else win[r - begin]
        for r in range(begin, end):
            out[r, i] = win[r - begin]


@compiled
def argmax_rows(
    x: Array, first: int, row_low: Array, down: Weights, low: Array, weight: Weights, cells: Array, columns: Array,
    begin: int, end: int, out: Array,
) -> bool:  # fmt: skip
    """Output rows begin to end of the mask `out` (H, W), uint8 or uint16; whether all logits it saw are finite.

    x: float32 (C, h, w), the input from row `first` on; row_low: int64 (H), the first row of corners of each output
    row, and `down` the weights of its taps; low and weight: the same for columns; cells: int64, the columns in `low`
    once each, and `columns` the first output column of each, and the end. Memory: a few rows of w or of W numbers.
    """
    taps, height, width = len(down), x.shape[1], x.shape[2]
    best, spoilt = np.empty(width, np.float32), np.empty(width, np.float32)
    rows = np.empty((taps, width), np.int32)  # winners of input row y are kept in row y % taps
    win = np.empty((taps, width), np.int32)
    held = np.full(taps, -1, np.int64)
    finite = np.zeros(taps, np.bool_)
    line = np.zeros(len(low), out.dtype)
    mixed, length = np.empty(len(cells), np.int32), np.empty(len(cells), np.int32)
    floor = np.empty(len(cells), np.float32)
    able = np.empty((len(cells), x.shape[0] + 1), np.int32)
    order = ordered(low, weight, x.shape[0])
    clean, r, waiting = True, begin, begin  # rows from `waiting` on are dense, and done together
    while r < end:
        y, stop = row_low[r] - first, r + 1
        while stop < end and stop < r + GROUP and row_low[stop] - first == y:
            stop += 1
        usable = True
        for k in range(taps):
            row = min(y + k, height - 1)
            slot = row % taps
            if held[slot] != row:
                finite[slot] = winners(x, row, best, rows[slot], spoilt)
                held[slot] = row
            usable &= finite[slot]
            win[k] = rows[slot]
        clean &= usable
        count, total, tried, dense = 0, 0, 0, False
        if usable:
            count = mixed_cells(win, down, cells, columns, line, mixed)
            tried = min(count, SAMPLE)
            if count > SAMPLE:  # noise shows in a few cells: most classes can win in each
                total = candidates(x, y, win, down, cells, mixed[:: count // SAMPLE], tried, floor, able, length)
            dense = total * count * DENSE > x.shape[0] * len(cells) * tried
            if count and not dense:
                total = candidates(x, y, win, down, cells, mixed, count, floor, able, length)
                dense = total * DENSE > x.shape[0] * len(cells)
        if not dense or stop - waiting > BLOCK:
            if waiting < r:
                dense_rows(x, first, row_low, down, order, True, waiting, r, out)
            waiting = r if dense else stop
        if not usable:
            dense_rows(x, first, row_low, down, order, False, r, stop, out)
        elif not dense:
            for o in range(r, stop):
                out[o] = line
            for n in range(count):
                j = mixed[n]
                fill_cell(x, y, cells[j], r, stop, columns[j], columns[j + 1], down, weight, able[n, : length[n]], out)
        r = stop
    if waiting < end:
        dense_rows(x, first, row_low, down, order, True, waiting, end, out)
    return clean


@compiled
def threshold_rows(
    x: Array, first: int, row_low: Array, down: Weights, low: Array, weight: Weights, cutoff: float,
    begin: int, end: int, out: Array,
) -> None:  # fmt: skip
    """Output rows begin to end of the mask `out` (H, W): 1 where the only class is above `cutoff`, NaN never."""
    last = x.shape[1] - 1
    flat = np.empty((len(down), TILE), np.float32)
    for start in range(0, len(low), TILE):
        stop = min(start + TILE, len(low))
        held = -1
        for r in range(begin, end):
            y = row_low[r] - first
            if y != held:
                for k in range(len(down)):
                    across(x, 0, min(y + k, last), low, weight, start, stop, flat[k])
                held = y
            for i in range(stop - start):
                value = flat[0, i] * down[0][r]
                for k in range(1, len(down)):
                    value += flat[k, i] * down[k][r]
                out[r, start + i] = value > cutoff
