"""The compiled kernel behind segc.runtime.masks: bilinear resize and argmax, cell by cell.

A cell is the set of output pixels that are interpolated from the same input pixels: `taps` x `taps` of them, the cell's
corners, at rows y, y + 1, ... and columns x, x + 1, ..., clamped to the map. An output pixel is a weighted mean of the
corners with weights >= 0.

- Where one class wins at every corner of a cell, it wins in the whole cell.
- Elsewhere let the floor be the largest, over the classes that win at a corner, of the class's smallest corner. Only
  classes whose largest corner reaches the floor can win, and only they are interpolated. In rows of cells where too
  many classes can win, all classes are interpolated, vectorized.

Rounding is monotone, so the computed value of an excluded class is at most that of the winner. The kernel can therefore
differ from interpolating every class only where rounding makes two classes equal: it may choose the class with the
truly larger value, where argmax chooses the lower number. Between equal candidates the lower number wins.

These bounds do not hold for infinite and NaN logits (0 * inf is NaN, and NaN wins in torch). Rows of cells that read
one are interpolated for all classes, and the first NaN wins.

numba compiles this module, so it works on numbers, arrays and named tuples of arrays. It is imported only where numba
is installed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from segc.runtime.masks.dense_kernel import GROUP, TILE, Array, Taps, Weights, column_order, dense_rows
from segc.runtime.masks.jit import compiled

DENSE = 30  # all classes are interpolated where more than 1 / DENSE of them are candidates
BLOCK = 64  # output rows processed together where all classes are interpolated
SAMPLE = 8  # mixed cells of a row that are examined first


class CellColumns(NamedTuple):
    """The cells of a row. first: int64 (N), the first input column of each. out: int64 (N + 1), the first output column
    of each, and the end.
    """

    first: Array
    out: Array


@compiled
def winners(x: Array, row: int, best: Array, win: Array, not_finite: Array) -> bool:
    """Write the winning class of every pixel of an input row into `win`; whether all logits of the row are finite.

    x: float32 (C, h, w). win: int32 (w). best, not_finite: float32 (w), scratch.
    """
    width = x.shape[2]
    for i in range(width):
        best[i] = x[0, row, i]
        not_finite[i] = best[i] * np.float32(0)
        win[i] = 0
    for c in range(1, x.shape[0]):
        for i in range(width):
            v = x[c, row, i]
            not_finite[i] += v * np.float32(0)
            above = v > best[i]
            best[i] = v if above else best[i]
            win[i] = c if above else win[i]
    finite = True
    for i in range(width):
        finite &= not_finite[i] == np.float32(0)  # NaN where one logit was not finite
    return finite


@compiled
def interpolate_columns(x: Array, c: int, row: int, cols: Taps, start: int, stop: int, out: Array) -> None:
    """Interpolate input row `row` of class c at output columns start to stop, into `out`."""
    low, weight = cols.low, cols.weight
    last = x.shape[2] - 1
    for i in range(start, stop):
        total = x[c, row, low[i]] * weight[0][i]
        for k in range(1, len(weight)):
            total += x[c, row, min(low[i] + k, last)] * weight[k][i]
        out[i - start] = total


@compiled
def mixed_cells(win: Array, taps: int, cells: CellColumns, line: Array, mixed: Array) -> int:
    """Write the winner of every cell whose corners agree into `line`; list the other cells in `mixed`, return how many.

    win: int32 (taps, w), the winners of the rows of corners. line: (W). mixed: int32 (N).
    """
    last, count = win.shape[1] - 1, 0
    for j in range(len(cells.first)):
        first = win[0, cells.first[j]]
        same = True
        for m in range(taps):
            column = min(cells.first[j] + m, last)
            for k in range(taps):
                same &= win[k, column] == first
        if same:
            for i in range(cells.out[j], cells.out[j + 1]):
                line[i] = first
        else:
            mixed[count] = j
            count += 1
    return count


@compiled
def corner_range(x: Array, c: int, y: int, column: int, taps: int) -> tuple[float, float]:
    """The smallest and the largest corner of class c in the cell at input row y and this input column."""
    last_row, last_column = x.shape[1] - 1, x.shape[2] - 1
    least = most = x[c, y, column]
    for p in range(taps):
        for q in range(taps):
            v = x[c, min(y + p, last_row), min(column + q, last_column)]
            least = v if v < least else least
            most = v if v > most else most
    return least, most


@compiled
def candidates(
    x: Array, y: int, win: Array, taps: int, cells: CellColumns, mixed: Array, count: int,
    floor: Array, classes: Array, length: Array,
) -> int:  # fmt: skip
    """Find the classes that can win in each of the first `count` cells of `mixed`; returns their total number.

    classes: int32 (N, C + 1), ascending; length: int32 (N), how many of them are filled. floor: float32 (N), scratch.
    """
    last, total = x.shape[2] - 1, 0
    for n in range(count):
        column = cells.first[mixed[n]]
        floor[n], length[n] = -np.inf, 0
        for m in range(taps):
            for k in range(taps):
                least, _ = corner_range(x, win[k, min(column + m, last)], y, column, taps)
                floor[n] = max(floor[n], least)
    for c in range(x.shape[0]):
        for n in range(count):
            _, most = corner_range(x, c, y, cells.first[mixed[n]], taps)
            classes[n, length[n]] = c  # overwritten by the next class unless this one is counted
            length[n] += most >= floor[n]
    for n in range(count):
        total += length[n]
    return total


@compiled
def fill_cell(
    x: Array, y: int, column: int, begin: int, end: int, start: int, stop: int, down: Weights, weight: Weights,
    classes: Array, out: Array,
) -> None:  # fmt: skip
    """Fill one mixed cell: output rows begin to end, columns start to stop, choosing among `classes`.

    y, column: its first input row and column. down, weight: the weights of rows and of columns.
    """
    last_row, last_column = x.shape[1] - 1, x.shape[2] - 1
    flat = np.empty(len(down), np.float32)
    best = np.empty(GROUP, np.float32)
    win = np.empty(GROUP, np.int32)
    for i in range(start, stop):
        best[:] = -np.inf
        win[:] = classes[0]
        for n in range(len(classes)):
            for k in range(len(down)):
                row = min(y + k, last_row)
                total = x[classes[n], row, column] * weight[0][i]
                for m in range(1, len(weight)):
                    total += x[classes[n], row, min(column + m, last_column)] * weight[m][i]
                flat[k] = total
            for r in range(begin, end):
                value = flat[0] * down[0][r]
                for k in range(1, len(down)):
                    value += flat[k] * down[k][r]
                above = value > best[r - begin]
                best[r - begin] = value if above else best[r - begin]
                win[r - begin] = classes[n] if above else win[r - begin]
        for r in range(begin, end):
            out[r, i] = win[r - begin]


@compiled
def argmax_rows(
    x: Array, first: int, rows: Taps, cols: Taps, cells: CellColumns, begin: int, end: int, out: Array
) -> bool:
    """Fill output rows begin to end of the mask `out` (H, W), uint8 or uint16; whether all logits read are finite.

    x: float32 (C, h, w), the logits from input row `first` on. rows: the taps of the H output rows, in rows of the
    whole input. cols: the taps of the W output columns. cells: of `cols`. Memory: a few rows of w or of W numbers.
    """
    row_low, down = rows.low, rows.weight
    taps, height, width = len(down), x.shape[1], x.shape[2]
    best, not_finite = np.empty(width, np.float32), np.empty(width, np.float32)
    kept = np.empty((taps, width), np.int32)  # the winners of input row y, in row y % taps
    win = np.empty((taps, width), np.int32)
    held = np.full(taps, -1, np.int64)
    finite = np.zeros(taps, np.bool_)
    line = np.zeros(len(cols.low), out.dtype)
    cell_count = len(cells.first)
    mixed, length = np.empty(cell_count, np.int32), np.empty(cell_count, np.int32)
    floor = np.empty(cell_count, np.float32)
    able = np.empty((cell_count, x.shape[0] + 1), np.int32)  # the candidates of each mixed cell
    order = column_order(cols, x.shape[0])
    clean, r, waiting = True, begin, begin  # output rows from `waiting` on need all classes, and are processed together
    while r < end:
        y, stop = row_low[r] - first, r + 1
        while stop < end and stop < r + GROUP and row_low[stop] - first == y:
            stop += 1
        usable = True
        for k in range(taps):
            row = min(y + k, height - 1)
            slot = row % taps
            if held[slot] != row:
                finite[slot] = winners(x, row, best, kept[slot], not_finite)
                held[slot] = row
            usable &= finite[slot]
            win[k] = kept[slot]
        clean &= usable
        count, total, tried, dense = 0, 0, 0, False
        if usable:
            count = mixed_cells(win, taps, cells, line, mixed)
            tried = min(count, SAMPLE)
            if count > SAMPLE:  # on noise most classes can win in every cell, which a few cells show
                total = candidates(x, y, win, taps, cells, mixed[:: count // SAMPLE], tried, floor, able, length)
            dense = total * count * DENSE > x.shape[0] * cell_count * tried
            if count and not dense:
                total = candidates(x, y, win, taps, cells, mixed, count, floor, able, length)
                dense = total * DENSE > x.shape[0] * cell_count
        if not dense or stop - waiting > BLOCK:
            if waiting < r:
                dense_rows(x, first, rows, order, True, waiting, r, out)
            waiting = r if dense else stop
        if not usable:
            dense_rows(x, first, rows, order, False, r, stop, out)
        elif not dense:
            for o in range(r, stop):
                out[o] = line
            for n in range(count):
                j = mixed[n]
                start, last = cells.out[j], cells.out[j + 1]
                fill_cell(x, y, cells.first[j], r, stop, start, last, down, cols.weight, able[n, : length[n]], out)
        r = stop
    if waiting < end:
        dense_rows(x, first, rows, order, True, waiting, end, out)
    return clean


@compiled
def threshold_rows(
    x: Array, first: int, rows: Taps, cols: Taps, cutoff: float, begin: int, end: int, out: Array
) -> None:
    """Fill output rows begin to end of the mask `out` (H, W): 1 where the only class exceeds `cutoff`; 0 for NaN.

    x, first, rows, cols: see `argmax_rows`.
    """
    row_low, down = rows.low, rows.weight
    last = x.shape[1] - 1
    flat = np.empty((len(down), TILE), np.float32)
    for start in range(0, len(cols.low), TILE):
        stop = min(start + TILE, len(cols.low))
        held = -1
        for r in range(begin, end):
            y = row_low[r] - first
            if y != held:
                for k in range(len(down)):
                    interpolate_columns(x, 0, min(y + k, last), cols, start, stop, flat[k])
                held = y
            for i in range(stop - start):
                value = flat[0, i] * down[0][r]
                for k in range(1, len(down)):
                    value += flat[k, i] * down[k][r]
                out[r, start + i] = value > cutoff
