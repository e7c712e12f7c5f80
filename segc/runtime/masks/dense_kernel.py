"""The compiled kernel that interpolates every class of a block of rows and keeps the largest.

Its inner loops run over columns of the result and see nothing but contiguous float32, so that vectors do them. In their
own order columns would not allow that: neighbours read the same input columns, and gathering those takes several times
as long as all the rest. So they are put in another order: of a tile of cells first the first pixel of every cell, then
the second of every cell, and so on. What a run of them reads is contiguous. Only winners are put back, once a pixel.

An interpolated row is shared by the cells above and below it. Values are computed in one way wherever they are: along
the row first, the taps in ascending order, as torch does.
"""

from __future__ import annotations

import numpy as np

from segc.runtime.masks.jit import compiled

Array = np.ndarray
Weights = tuple[np.ndarray, ...]
Order = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # as `ordered` gives it
GROUP = 16  # output rows done at a time
TILE = 512  # output columns done at a time: with 4 to 8 rows, what fits the first-level cache
LINES = 1 << 18  # numbers of interpolated rows that are held: what fits the second-level cache
TOGETHER = 4  # classes compared at a time


@compiled
def ordered(low: Array, weight: Weights, classes: int) -> Order:
    """(runs, tiles, places, weights): the columns of the result in the order in which they are done.

    low: int64 (W), the first input column of each column, ascending; weight: its float32 weights for each tap.
    runs: int64 (R, 3), the first input column, the first place and the places of each. tiles: int64 (T + 1, 2), the
    first run and the first column of each tile, and the ends. places: int32 (W), where each column is done, counted
    from the first place of its tile. weights: float32 (taps, N), at each place; cells that are narrower than others
    leave some without a column, and with weights of 0.
    """
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
    places, weights = np.zeros(len(low), np.int32), np.zeros((len(weight), bound), np.float32)
    run, place = 0, 0
    for t in range(len(tiles) - 1):
        at, end, base = t * step, min((t + 1) * step, span), place
        for k in range(np.max(np.diff(begins[at : end + 1]))):
            left, right = end, at
            for j in range(at, end):
                if begins[j] + k < begins[j + 1]:
                    left, right = min(left, j), j + 1
            for j in range(left, right):
                column = begins[j] + k
                if column < begins[j + 1]:
                    places[column] = place - base + j - left
                    for m in range(len(weight)):
                        weights[m, place + j - left] = weight[m][column]
            runs[run, 0], runs[run, 1], runs[run, 2] = start + left, place, right - left
            place += right - left
            run += 1
        tiles[t + 1, 0], tiles[t + 1, 1] = run, begins[end]
    return runs, tiles, places, weights[:, :place].copy()  # contiguous, or the loops that read it are slow


@compiled
def interpolated(x: Array, c: int, row: int, runs: Array, weights: Array, line: Array, out: Array) -> None:
    """Input row `row` of class c at all places of `runs` into `out`, from its first element on.

    line: float32 (w + taps - 1), overwritten.
    """
    width, taps, start = x.shape[2], len(weights), runs[0, 1]
    for i in range(width):
        line[i] = x[c, row, i]
    for i in range(width, len(line)):
        line[i] = x[c, row, width - 1]
    for r in range(len(runs)):
        low, place, count = runs[r, 0], runs[r, 1], runs[r, 2]
        left, right, to = line[low:], line[low + 1 :], out[place - start :]
        u, v = weights[0, place:], weights[1, place:]
        if taps == 2:
            for i in range(count):
                to[i] = left[i] * u[i] + right[i] * v[i]
            continue
        for i in range(count):
            total = left[i] * u[i] + right[i] * v[i]
            for k in range(2, taps):
                total += line[low + i + k] * weights[k, place + i]
            to[i] = total


@compiled
def overtake_by_four(
    lines: Array, c: int, above: int, below: int, u: float, v: float, count: int, best: Array, win: Array
) -> None:
    """Let classes c to c + 3 win where they are above the best so far; rows of corners are in slots above and below."""
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
def overtake(
    lines: Array, c: int, slots: Array, down: Weights, row: int, finite: bool, count: int, best: Array, win: Array
) -> None:
    """Let class c win output row `row` where it is above the best so far. NaN is above everything but a NaN."""
    first, second, u, v, index = lines[c, slots[0]], lines[c, slots[1]], down[0][row], down[1][row], np.int32(c)
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
            value += lines[c, slots[k], i] * down[k][row]
        larger = not (value <= best[i]) and best[i] == best[i]
        best[i] = value if larger else best[i]
        win[i] = index if larger else win[i]


@compiled
def winners_of_rows(
    lines: Array, slots: Array, down: Weights, finite: bool, begin: int, end: int, count: int, best: Array, win: Array
) -> None:
    """Largest value and its class at `count` places of rows begin to end, into rows 0, 1, ... of best and win."""
    classes = lines.shape[0]
    best[:] = -np.inf
    win[:] = 0
    if finite and len(down) == 2 and classes >= TOGETHER:
        for c in range(0, classes, TOGETHER):
            c = min(c, classes - TOGETHER)  # a class that is seen again is not above itself
            for r in range(begin, end):
                u, v = down[0][r], down[1][r]
                overtake_by_four(lines, c, slots[0], slots[1], u, v, count, best[r - begin], win[r - begin])
        return
    for c in range(classes):
        for r in range(begin, end):
            overtake(lines, c, slots, down, r, finite, count, best[r - begin], win[r - begin])


@compiled
def dense_rows(
    x: Array, first: int, row_low: Array, down: Weights, order: Order, finite: bool, begin: int, end: int, out: Array
) -> None:
    """Output rows begin to end of `out` (H, W) with every class interpolated. Arguments as of `argmax_rows`.

    finite: whether all logits that are read are.
    """
    runs, tiles, places, weights = order
    last, classes, taps = x.shape[1] - 1, x.shape[0], len(down)
    most = 0
    for t in range(len(tiles) - 1):
        most = max(most, runs[tiles[t + 1, 0] - 1, 1] + runs[tiles[t + 1, 0] - 1, 2] - runs[tiles[t, 0], 1])
    line = np.empty(x.shape[2] + taps - 1, np.float32)
    lines = np.empty((classes, taps, most), np.float32)
    best, win = np.empty((GROUP, most), np.float32), np.empty((GROUP, most), np.int32)
    slots = np.empty(taps, np.int64)
    for t in range(len(tiles) - 1):
        mine = runs[tiles[t, 0] : tiles[t + 1, 0]]
        count = mine[-1, 1] + mine[-1, 2] - mine[0, 1]
        held = np.full(taps, -1, np.int64)
        r = begin
        while r < end:
            y, stop = row_low[r] - first, r + 1
            while stop < end and stop < r + GROUP and row_low[stop] - first == y:
                stop += 1
            for k in range(taps):
                row = min(y + k, last)
                slots[k] = row % taps
                if held[slots[k]] != row:
                    held[slots[k]] = row
                    for c in range(classes):
                        interpolated(x, c, row, mine, weights, line, lines[c, slots[k]])
            winners_of_rows(lines, slots, down, finite, r, stop, count, best, win)
            for o in range(r, stop):
                for i in range(tiles[t, 1], tiles[t + 1, 1]):
                    out[o, i] = win[o - r, places[i]]
            r = stop
