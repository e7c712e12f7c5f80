"""Class maps from logits: bilinear resize and argmax without ever holding the resized logits.

With numba installed (extra `fast`) a compiled kernel works cell by cell (cell_kernel.py explains why that is exact);
otherwise NumPy works on a block of rows at a time (resize.py). Both use torch's coordinates and weights.

Ties: where two interpolated values are equal the lowest class wins, as in torch. Where rounding alone makes them equal,
the kernel may choose another class than torch: the one whose exact value is larger.
NaN: the first class that is NaN wins, as in torch.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import ModuleType

import numpy as np
import numpy.typing as npt

from segc.runtime import resize
from segc.runtime.masks.sigmoid_threshold import cutoff
from segc.runtime.masks.worker_threads import run_in_threads
from segc.runtime.resize import ArrayRows, Floats, Mask, ResizedRows, Rows

_log = logging.getLogger(__name__)

_STRIPS_PER_THREAD = 4  # so that threads finish at about the same time
_WORK_PER_THREAD = 1 << 18  # logits read plus pixels written that make another thread worthwhile
_BAND_BYTES = 8 << 20  # of logits requested at a time where they are computed row by row
Via = tuple[tuple[int, int], tuple[int, int]]  # an intermediate size, and the size it is cropped to: (height, width)
MAX_TAPS = 4  # with more, the resizes run one after the other


@dataclass(frozen=True)
class Axis:
    """One axis of a resize: output cell i is the sum over k of `weight[k][i] * x[min(low[i] + k, side - 1)]`."""

    side: int
    low: npt.NDArray[np.int64]
    weight: tuple[Floats, ...]

    @property
    def out(self) -> int:
        """The size of the result along the axis."""
        return len(self.low)


def axis(side: int, out: int, align_corners: bool) -> Axis:
    """torch's bilinear resize of a side from `side` to `out` cells."""
    low, _, weight = resize.taps(side, out, align_corners)
    return Axis(side, low.astype(np.int64), (1 - weight, weight))


def composed(first: Axis, then: Axis) -> Axis:
    """Both resizes as one: the product of their matrices, exact except for the rounding of its weights.

    then.side may be smaller than first.out, where the result of `first` is cropped.
    """
    taps = [np.minimum(then.low + k, then.side - 1) for k in range(len(then.weight))]
    low = first.low[taps[0]]
    reads = [(k, j, np.minimum(first.low[t] + j, first.side - 1)) for k, t in enumerate(taps) for j in (0, 1)]
    weights = np.zeros((int(max((source - low).max() for _, _, source in reads)) + 1, then.out))
    for k, j, source in reads:
        np.add.at(
            weights, (source - low, np.arange(then.out)), then.weight[k].astype(np.float64) * first.weight[j][taps[k]]
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
    """The class of every pixel of logits (C, h, w) resized to `size` (H, W): uint8, uint16 above 256 classes.

    via: first resize to this intermediate size and crop it, as mmseg does in and after its network. threads: 0 for one
    per core. Memory: the mask, a few rows and, for `Rows`, a band of logits at a time.
    """
    source = ArrayRows(logits) if isinstance(logits, np.ndarray) else logits
    axes = _axes(source, size, align_corners, via)
    if axes is None or (kernels := compiled()) is None:
        return resize.resize_argmax(_after_first_resize(source, align_corners, via), size, align_corners)
    mask = np.empty(size, np.uint8 if source.channels <= 256 else np.uint16)
    rows, cols = (kernels.Taps(axis.low, axis.weight) for axis in axes)
    cells = kernels.CellColumns(*_cells(cols.low))
    all_finite = True

    def strip(x: Floats, first: int, begin: int, end: int) -> None:
        nonlocal all_finite
        strip_finite = kernels.argmax_rows(x, first, rows, cols, cells, begin, end, mask)
        all_finite = all_finite and strip_finite

    _run_in_strips(source, axes[0], axes[1].out, threads, strip)
    keeps_a_side = source.height == size[0] or source.width == size[1]
    if not all_finite and (via is not None or keeps_a_side) and isinstance(source, ArrayRows):
        _log.debug("logits are not finite: NumPy makes the mask again")
        # the kernel multiplies by 0 what two resizes, or one that keeps a side, do not read, and 0 * inf is NaN
        return resize.resize_argmax(_after_first_resize(source, align_corners, via), size, align_corners)
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
    """sigmoid(logit) > threshold for a head with one channel, resized as by `resize_argmax`: uint8 of 0 and 1."""
    source = ArrayRows(logits) if isinstance(logits, np.ndarray) else logits
    bound = None if threshold <= 0 else cutoff(threshold, np.dtype(np.float32))
    axes = _axes(source, size, align_corners, via)
    if axes is None or bound is None or (kernels := compiled()) is None:
        return resize.resize_threshold(_after_first_resize(source, align_corners, via), size, align_corners, threshold)
    mask = np.empty(size, np.uint8)
    rows, cols = (kernels.Taps(axis.low, axis.weight) for axis in axes)

    def strip(x: Floats, first: int, begin: int, end: int) -> None:
        kernels.threshold_rows(x, first, rows, cols, np.float32(bound), begin, end, mask)

    _run_in_strips(source, axes[0], axes[1].out, threads, strip)
    return mask


@cache
def compiled() -> ModuleType | None:
    """The module of compiled kernels; None where numba is missing or does not work."""
    try:
        from segc.runtime.masks import cell_kernel
    except ModuleNotFoundError as error:
        _log.debug("masks are made by NumPy: %s", error)
        return None
    except Exception as error:  # a numba that does not match its NumPy may raise anything
        _log.warning("masks are made by NumPy, because numba does not work: %s", error)
        return None
    return cell_kernel


def cores() -> int:
    """The number of cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _axes(source: Rows, size: tuple[int, int], align_corners: bool, via: Via | None) -> tuple[Axis, Axis] | None:
    """Rows and columns of the whole resize, padded to equally many taps; None where they need more than MAX_TAPS."""
    sides = source.height, source.width
    if via is None:
        rows, cols = (axis(side, out, align_corners) for side, out in zip(sides, size, strict=True))
    else:
        rows, cols = (
            composed(axis(side, middle, align_corners), axis(kept, out, align_corners))
            for side, middle, kept, out in zip(sides, *via, size, strict=True)
        )
    taps = max(len(rows.weight), len(cols.weight), 2)
    return None if taps > MAX_TAPS else (_widened(rows, taps), _widened(cols, taps))


def _widened(given: Axis, taps: int) -> Axis:
    more = (np.zeros(given.out, np.float32),) * (taps - len(given.weight))
    return Axis(given.side, given.low, (*given.weight, *more))


def _after_first_resize(source: Rows, align_corners: bool, via: Via | None) -> Rows:
    return source if via is None else ResizedRows(source, via[0], via[1], align_corners)


def _cells(low: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The distinct input columns in `low`, and the first output column of each, and the end."""
    begins = np.flatnonzero(np.concatenate([[True], low[1:] != low[:-1]]))
    return low[begins], np.append(begins, len(low)).astype(np.int64)


def _run_in_strips(
    source: Rows, rows: Axis, columns: int, threads: int, strip: Callable[[Floats, int, int, int], None]
) -> None:
    """Call strip(x, first, begin, end) for all output rows, in threads; x: the logits from input row `first` on."""
    taps = len(rows.weight)
    work = source.channels * source.height * source.width + rows.out * columns
    threads = min(threads or cores(), 1 + work // _WORK_PER_THREAD)
    if isinstance(source, ArrayRows):
        x = np.ascontiguousarray(source.logits, np.float32)
        _split_among_threads(threads, rows.low, 0, rows.out, lambda begin, end: strip(x, 0, begin, end))
        return
    most = max(taps, _BAND_BYTES // (4 * source.channels * source.width))
    begin = 0
    while begin < rows.out:
        first = int(rows.low[begin])
        end = max(begin + 1, int(np.searchsorted(rows.low, first + most - taps, side="right")))
        last = min(int(rows.low[end - 1]) + taps, rows.side)
        band = np.ascontiguousarray(source.rows(first, last), np.float32)
        _split_among_threads(threads, rows.low, begin, end, lambda low, high: strip(band, first, low, high))  # noqa: B023
        begin = end


def _split_among_threads(
    threads: int, low: npt.NDArray[np.int64], begin: int, end: int, work: Callable[[int, int], None]
) -> None:
    """Call work(a, b) in threads for parts that cover begin to end, divided at the starts of cells where possible."""
    cuts = np.unique(np.linspace(begin, end, 1 + (threads * _STRIPS_PER_THREAD if threads > 1 else 1)).astype(np.int64))
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

    run_in_threads(min(threads, len(bounds) - 1) - 1, worker)
    if failed:
        raise failed[0]
