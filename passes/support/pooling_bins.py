"""The bins of adaptive pooling."""

from __future__ import annotations


def bin_bounds(size: int, bins: int) -> list[tuple[int, int]]:
    """First cell and end (exclusive) of each bin."""
    return [(i * size // bins, -(-(i + 1) * size // bins)) for i in range(bins)]
