"""The compiled kernel that interpolates every class of a block of rows and keeps the largest.

Its inner loops run over output columns and read only contiguous float32, so that the compiler vectorizes them. Columns
in their own order would not allow that: neighbours read the same input columns, and gathering those takes several times
as long as everything else. So the columns of a tile of cells are reordered: the first pixel of every cell, then the
second of every cell, and so on. Each such run reads contiguous input columns. Only winners are put back in order, once
per pixel.

An interpolated row is shared by the cells above and below it. Every value is computed in the same way: along the row
first, taps in ascending order, as torch does.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from segc.runtime.masks.jit import compiled

Array = np.ndarray
Weights = tuple[np.ndarray, ...]
GROUP = 16  # output rows processed together
TILE = 512  # output columns processed together: with 4 to 8 rows they fit the first-level cache
LINES = 1 << 18  # elements of the interpolated rows in use: they fit the second-level cache
TOGETHER = 4  # classes compared in one loop


class Taps(NamedTuple):
    """Interpolation taps of one axis: output i is the sum over k of weight[k][i] * x[min(low[i] + k, side - 1)].

    low: int64 (N), ascending. weight: one float32 (N) for each tap, in a tuple, so that the number of taps is known
    when the kernel is compiled.
    """

    low: Array
    weight: Weights


class ColumnOrder(NamedTuple):
    """The order in which output columns are processed.

    runs: int64 (R, 3), the first input column, the first slot and the number of slots of each run. tiles: int64
    (T + 1, 2), the first run and the first output column of each tile, and the ends. slots: int32 (W), the slot of each
    output column, relative to the first slot of its tile. weights: float32 (taps, N), of each slot; where cells are
    narrower than others, slots without a column have weights of 0.
    """

    runs: Array
    tiles: Array
    slots: Array
    weights: Array


@compiled
def column_order(cols: Taps, classes: int) -> ColumnOrder:
    """The order for these columns; the number of classes decides the width of a tile."""
    low, weight = cols.low, cols.weight
    start, span = low[0], low[-1] - low[0] + 1
    begins = np.searchsorted(low, np.arange(start, start + span + 1))
    most = min(TILE, max(TILE // 4, LINES // (classes * len(weight))))
    step = max(1, most * span // len(low))
    bound, count = 0, 0
    for at in range(0, span, step):
        widest = np.max(np.diff(begins[at : at + step + 1]))
        bound += widest * min(step, span - at)
        count += widest
    runs, tiles = np.empty((count, 3), np.int64), np.zeros(((span - 1) // step + 2, 2), np.int64)
    slots, weights = np.zeros(len(low), np.int32), np.zeros((len(weight), bound), np.float32)
    run, slot = 0, 0
    for t in range(len(tiles) - 1):
        at, end, base = t * step, min((t + 1) * step, span), slot
        for k in range(np.max(np.diff(begins[at : end + 1]))):
            left, right = end, at
            for j in range(at, end):
                if begins[j] + k < begins[j + 1]:
                    left, right = min(left, j), j + 1
            for j in range(left, right):
                column = begins[j] + k
                if column < begins[j + 1]:
                    slots[column] = slot - base + j - left
                    for m in range(len(weight)):
                        weights[m, slot + j - left] = weight[m][column]
            runs[run, 0], runs[run, 1], runs[run, 2] = start + left, slot, right - left
            slot += right - left
            run += 1
        tiles[t + 1, 0], tiles[t + 1, 1] = run, begins[end]
    return ColumnOrder(runs, tiles, slots, weights[:, :slot].copy())  # contiguous, or the loops that read it are slow


@compiled
def interpolate_row(x: Array, c: int, row: int, runs: Array, weights: Array, line: Array, out: Array) -> None:
    """Interpolate input row `row` of class c at all slots of `runs`, into `out`.

    line: float32 (w + taps - 1), scratch.
    """
    width, taps, start = x.shape[2], len(weights), runs[0, 1]
    for i in range(width):
        line[i] = x[c, row, i]
    for i in range(width, len(line)):
        line[i] = x[c, row, width - 1]
    for r in range(len(runs)):
        low, slot, count = runs[r, 0], runs[r, 1], runs[r, 2]
        left, right, target = line[low:], line[low + 1 :], out[slot - start :]
        u, v = weights[0, slot:], weights[1, slot:]
        if taps == 2:
            for i in range(count):
                target[i] = left[i] * u[i] + right[i] * v[i]
            continue
        for i in range(count):
            total = left[i] * u[i] + right[i] * v[i]
            for k in range(2, taps):
                total += line[low + i + k] * weights[k, slot + i]
            target[i] = total


@compiled
def update_winners_by_four(
    lines: Array, c: int, above: int, below: int, u: float, v: float, count: int, best: Array, win: Array
) -> None:
    """Let classes c to c + 3 win where they exceed the best so far. above, below: the two rows of `lines` to read."""
    a0, a1, a2, a3 = lines[c, above], lines[c + 1, above], lines[c + 2, above], lines[c + 3, above]
    b0, b1, b2, b3 = lines[c, below], lines[c + 1, below], lines[c + 2, below], lines[c + 3, below]
    first = np.int32(c)
    for i in range(count):
        most, at = best[i], win[i]
        value = a0[i] * u + b0[i] * v
        larger = value > most
        most, at = value if larger else most, first if larger else at
        value = a1[i] * u + b1[i] * v
        larger = value > most
        most, at = value if larger else most, first + np.int32(1) if larger else at
        value = a2[i] * u + b2[i] * v
        larger = value > most
        most, at = value if larger else most, first + np.int32(2) if larger else at
        value = a3[i] * u + b3[i] * v
        larger = value > most
        best[i], win[i] = value if larger else most, first + np.int32(3) if larger else at


@compiled
def update_winners(
    lines: Array, c: int, line_of: Array, down: Weights, row: int, finite: bool, count: int, best: Array, win: Array
) -> None:
    """Let class c win in output row `row` where it exceeds the best so far; NaN exceeds everything but NaN."""
    first, second, u, v, index = lines[c, line_of[0]], lines[c, line_of[1]], down[0][row], down[1][row], np.int32(c)
    if finite and len(down) == 2:
        for i in range(count):
            value = first[i] * u + second[i] * v
            larger = value > best[i]
            best[i] = value if larger else best[i]
            win[i] = index if larger else win[i]
        return
    for i in range(count):
        value = first[i] * u + second[i] * v
        for k in range(2, len(down)):
            value += lines[c, line_of[k], i] * down[k][row]
        larger = not (value <= best[i]) and best[i] == best[i]
        best[i] = value if larger else best[i]
        win[i] = index if larger else win[i]


@compiled
def winners_of_rows(
    lines: Array, line_of: Array, down: Weights, finite: bool, begin: int, end: int, count: int, best: Array, win: Array
) -> None:
    """Write the largest value and its class at `count` slots of output rows begin to end into best and win.

    line_of: for each tap the row of `lines` (classes, taps, slots) that holds its input row.
    """
    classes = lines.shape[0]
    best[:] = -np.inf
    win[:] = 0
    if finite and len(down) == 2 and classes >= TOGETHER:
        for c in range(0, classes, TOGETHER):
            c = min(c, classes - TOGETHER)  # a class that is compared twice does not exceed itself
            for r in range(begin, end):
                u, v = down[0][r], down[1][r]
                update_winners_by_four(lines, c, line_of[0], line_of[1], u, v, count, best[r - begin], win[r - begin])
        return
    for c in range(classes):
        for r in range(begin, end):
            update_winners(lines, c, line_of, down, r, finite, count, best[r - begin], win[r - begin])


@compiled
def dense_rows(
    x: Array, first: int, rows: Taps, order: ColumnOrder, finite: bool, begin: int, end: int, out: Array
) -> None:
    """Fill output rows begin to end of `out` (H, W), with every class interpolated.

    x, first, rows, out: see `cell_kernel.argmax_rows`. finite: whether all logits that are read are finite.
    """
    runs, tiles, weights = order.runs, order.tiles, order.weights
    down, row_low = rows.weight, rows.low
    last, classes, taps = x.shape[1] - 1, x.shape[0], len(down)
    most = 0
    for t in range(len(tiles) - 1):
        most = max(most, runs[tiles[t + 1, 0] - 1, 1] + runs[tiles[t + 1, 0] - 1, 2] - runs[tiles[t, 0], 1])
    line = np.empty(x.shape[2] + taps - 1, np.float32)
    lines = np.empty((classes, taps, most), np.float32)
    best, win = np.empty((GROUP, most), np.float32), np.empty((GROUP, most), np.int32)
    line_of = np.empty(taps, np.int64)  # for each tap, the row of `lines` that holds its input row
    for t in range(len(tiles) - 1):
        tile_runs = runs[tiles[t, 0] : tiles[t + 1, 0]]
        count = tile_runs[-1, 1] + tile_runs[-1, 2] - tile_runs[0, 1]
        held = np.full(taps, -1, np.int64)
        r = begin
        while r < end:
            y, stop = row_low[r] - first, r + 1
            while stop < end and stop < r + GROUP and row_low[stop] - first == y:
                stop += 1
            for k in range(taps):
                row = min(y + k, last)
                line_of[k] = row % taps
                if held[line_of[k]] != row:
                    held[line_of[k]] = row
                    for c in range(classes):
                        interpolate_row(x, c, row, tile_runs, weights, line, lines[c, line_of[k]])
            winners_of_rows(lines, line_of, down, finite, r, stop, count, best, win)
            for o in range(r, stop):
                for i in range(tiles[t, 1], tiles[t + 1, 1]):
                    out[o, i] = win[o - r, order.slots[i]]
            r = stop
