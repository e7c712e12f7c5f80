"""Class maps from logits: bilinear resize and argmax without ever holding the resized logits.

With numba installed (extra `fast`) a compiled kernel does it, cell by cell (mask_kernels.py says why that is exact);
otherwise NumPy does, a block of rows at a time (resize.py). Both use torch's coordinates and weights.

Ties: the lowest class wins, as in torch, where two interpolated values are equal as computed. The kernel may name
another class than torch where rounding alone makes them equal: the one whose logits are truly larger.
NaN: the first class that is NaN wins, as in torch.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import ModuleType

import numpy as np
import numpy.typing as npt

from segc.runtime import resize
from segc.runtime.masks.sigmoid_threshold import cutoff
from segc.runtime.masks.worker_threads import together
from segc.runtime.resize import ArrayRows, Floats, Mask, ResizedRows, Rows

_STRIPS = 4  # a thread: so that one thread ends with little to wait for
_THREAD_WORTH = 1 << 18  # logits read and pixels written that are worth starting a thread for
_BAND_BYTES = 8 << 20  # of input logits asked for at a time where they are made row by row
Via = tuple[tuple[int, int], tuple[int, int]]  # a size in between, and what is kept of it: (height, width)
MOST_TAPS = 4  # more, and the resizes are done one after the other


@dataclass(frozen=True)
class Axis:
    """One axis of a resize: output cell i is the sum over k of `weight[k][i] * x[min(low[i] + k, side - 1)]`."""

    side: int
    low: npt.NDArray[np.int64]
    weight: tuple[Floats, ...]

    @property
    def out(self) -> int:
        """Cells of the result."""
        return len(self.low)


def axis(side: int, out: int, align_corners: bool) -> Axis:
    """torch's bilinear resize of `side` cells to `out`."""
    low, _, weight = resize.taps(side, out, align_corners)
    return Axis(side, low.astype(np.int64), (1 - weight, weight))


def composed(first: Axis, then: Axis) -> Axis:
    """Both resizes as one: the product of their matrices, exact but for the rounding of its weights.

    `then` may see fewer cells than `first` makes: the others were cropped.
    """
    taps = [np.minimum(then.low + k, then.side - 1) for k in range(len(then.weight))]
    low = first.low[taps[0]]
    reads = [(k, j, np.minimum(first.low[t] + j, first.side - 1)) for k, t in enumerate(taps) for j in (0, 1)]
    weights = np.zeros((int(max((at - low).max() for _, _, at in reads)) + 1, then.out))
    for k, j, at in reads:
        np.add.at(
            weights, (at - low, np.arange(then.out)), then.weight[k].astype(np.float64) * first.weight[j][taps[k]]
        )
    return Axis(first.side, low, tuple(weights.astype(np.float32)))


def resize_argmax(
    logits: Floats | Rows,
    size: tuple[int, int],
    align_corners: bool,
    *,
    via: Via | None = None,
    threads: int = 0,
) -> Mask:
    """The class of every pixel of logits (C, h, w) resized to `size` (H, W): uint8, above 256 classes uint16.

    via: first resized to this size, then cropped to that one, as mmseg does in and after its network.
    threads: 0 for one a core. Memory: the mask, a few rows, and of `Rows` a band at a time.
    """
    source = ArrayRows(logits) if isinstance(logits, np.ndarray) else logits
    axes = _axes(source, size, align_corners, via)
    if axes is None or (kernels := compiled()) is None:
        return resize.resize_argmax(_stepwise(source, align_corners, via), size, align_corners)
    mask = np.empty(size, np.uint8 if source.channels <= 256 else np.uint16)
    cells, columns = _cells(axes[1].low)
    rows, cols = axes
    clean = True

    def strip(x: Floats, first: int, begin: int, end: int) -> None:
        nonlocal clean
        seen = kernels.argmax_rows(
            x, first, rows.low, rows.weight, cols.low, cols.weight, cells, columns, begin, end, mask
        )
        clean = clean and seen

    _in_strips(source, rows, cols.out, threads, strip)
    kept = source.height == size[0] or source.width == size[1]
    if not clean and (via is not None or kept) and isinstance(source, ArrayRows):
        # the kernel weighs by 0 what two resizes, or one that keeps a side, do not read: 0 * inf is NaN
        return resize.resize_argmax(_stepwise(source, align_corners, via), size, align_corners)
    return mask


def resize_threshold(
    logits: Floats | Rows,
    size: tuple[int, int],
    align_corners: bool,
    threshold: float,
    *,
    via: Via | None = None,
    threads: int = 0,
) -> Mask:
    """sigmoid(logit) > threshold for a head with one channel, resized as `resize_argmax` does: uint8 of 0 and 1."""
    source = ArrayRows(logits) if isinstance(logits, np.ndarray) else logits
    bound = None if threshold <= 0 else cutoff(threshold, np.dtype(np.float32))
    axes = _axes(source, size, align_corners, via)
    if axes is None or bound is None or (kernels := compiled()) is None:
        return resize.resize_threshold(_stepwise(source, align_corners, via), size, align_corners, threshold)
    mask = np.empty(size, np.uint8)
    rows, cols = axes

    def strip(x: Floats, first: int, begin: int, end: int) -> None:
        kernels.threshold_rows(
            x, first, rows.low, rows.weight, cols.low, cols.weight, np.float32(bound), begin, end, mask
        )

    _in_strips(source, rows, cols.out, threads, strip)
    return mask


@cache
def compiled() -> ModuleType | None:
    """The module of compiled kernels, None where numba cannot be used."""
    try:
        from segc.runtime.masks import cell_kernel
    except Exception:  # an installation of numba that does not fit its NumPy may raise anything
        return None
    return cell_kernel


def cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _axes(source: Rows, size: tuple[int, int], align_corners: bool, via: Via | None) -> tuple[Axis, Axis] | None:
    """Rows and columns of all that is resized, with equally many taps; None where that takes too many."""
    sides = source.height, source.width
    if via is None:
        rows, cols = (axis(side, out, align_corners) for side, out in zip(sides, size, strict=True))
    else:
        rows, cols = (
            composed(axis(side, middle, align_corners), axis(kept, out, align_corners))
            for side, middle, kept, out in zip(sides, *via, size, strict=True)
        )
    taps = max(len(rows.weight), len(cols.weight), 2)
    return None if taps > MOST_TAPS else (_widened(rows, taps), _widened(cols, taps))


def _widened(given: Axis, taps: int) -> Axis:
    more = (np.zeros(given.out, np.float32),) * (taps - len(given.weight))
    return Axis(given.side, given.low, (*given.weight, *more))


def _stepwise(source: Rows, align_corners: bool, via: Via | None) -> Rows:
    return source if via is None else ResizedRows(source, via[0], via[1], align_corners)


def _cells(low: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The input columns in `low` once each, and where each begins in it, and the end."""
    begins = np.flatnonzero(np.concatenate([[True], low[1:] != low[:-1]]))
    return low[begins], np.append(begins, len(low)).astype(np.int64)


def _in_strips(
    source: Rows, rows: Axis, columns: int, threads: int, strip: Callable[[Floats, int, int, int], None]
) -> None:
    """Call strip(x, first, begin, end) for all output rows, by several threads; x holds the input from row `first`."""
    taps = len(rows.weight)
    work = source.channels * source.height * source.width + rows.out * columns
    threads = min(threads or cores(), 1 + work // _THREAD_WORTH)
    if isinstance(source, ArrayRows):
        x = np.ascontiguousarray(source.logits, np.float32)
        _share(threads, rows.low, 0, rows.out, lambda begin, end: strip(x, 0, begin, end))
        return
    most = max(taps, _BAND_BYTES // (4 * source.channels * source.width))
    begin = 0
    while begin < rows.out:
        first = int(rows.low[begin])
        end = max(begin + 1, int(np.searchsorted(rows.low, first + most - taps, side="right")))
        last = min(int(rows.low[end - 1]) + taps, rows.side)
        band = np.ascontiguousarray(source.rows(first, last), np.float32)
        _share(threads, rows.low, begin, end, lambda low, high: strip(band, first, low, high))  # noqa: B023
        begin = end


def _share(threads: int, low: npt.NDArray[np.int64], begin: int, end: int, work: Callable[[int, int], None]) -> None:
    """work(a, b) for parts of begin to end that together are all of it, cut where a new cell begins where possible."""
    cuts = np.unique(np.linspace(begin, end, 1 + (threads * _STRIPS if threads > 1 else 1)).astype(np.int64))
    starts = [begin, *(int(np.searchsorted(low, low[cut])) for cut in cuts[1:-1]), end]
    bounds = sorted(set(starts) & set(range(begin, end + 1)))
    parts = iter(list(itertools.pairwise(bounds)))
    failed: list[BaseException] = []

    def worker() -> None:
        try:
            for a, b in parts:
                work(a, b)
        except BaseException as error:
            failed.append(error)

    together(min(threads, len(bounds) - 1) - 1, worker)
    if failed:
        raise failed[0]
