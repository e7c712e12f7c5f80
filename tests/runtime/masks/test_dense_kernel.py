"""The order of columns that lets vectors interpolate, and the rows that are made in it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba")
from segc.runtime.masks import dense_kernel
from segc.runtime.masks.dispatch import Axis, _widened, axis, composed


def reordered(row: np.ndarray, columns: Axis, classes: int) -> np.ndarray:
    """`row` (w) interpolated at the columns of `columns`, by way of their order."""
    runs, tiles, places, weights = dense_kernel.column_order(dense_kernel.Taps(columns.low, columns.weight), classes)
    taps = len(columns.weight)
    line = np.empty(len(row) + taps - 1, np.float32)
    made = np.full(columns.out, np.nan, np.float32)
    for (first, left), (last, right) in itertools.pairwise(tiles):
        mine = runs[first:last]
        held = np.empty(mine[:, 2].sum(), np.float32)
        dense_kernel.interpolate_row(row[None, None], 0, 0, mine, weights, line, held)
        made[left:right] = held[places[left:right]]
    return made


@settings(max_examples=200, deadline=None)
@given(
    side=st.integers(1, 60), out=st.integers(1, 400), align=st.booleans(), classes=st.sampled_from([1, 19, 4000]),
    then=st.none() | st.integers(1, 200), seed=st.integers(0, 5),
)  # fmt: skip
def test_every_column_is_done_at_one_place_with_its_own_weights(
    side: int, out: int, align: bool, classes: int, then: int | None, seed: int
) -> None:
    columns = axis(side, out, align)
    if then is not None:
        columns = composed(columns, axis(out, then, align))
        columns = _widened(columns, max(2, len(columns.weight)))
    row = np.random.default_rng(seed).standard_normal(side).astype(np.float32)
    expected = sum(
        row[np.minimum(columns.low + k, side - 1)].astype(np.float64) * weight
        for k, weight in enumerate(columns.weight)
    )
    np.testing.assert_allclose(reordered(row, columns, classes), expected, atol=2e-6)


def test_a_column_costs_one_place_but_where_cells_differ_in_width() -> None:
    for side, out, most in ((128, 512, 1.02), (256, 2048, 1.05), (65, 513, 1.05), (100, 150, 1.35), (60, 40, 1.51)):
        columns = axis(side, out, False)
        *_, weights = dense_kernel.column_order(dense_kernel.Taps(columns.low, columns.weight), 19)
        assert out <= weights.shape[1] <= most * out, (side, out)


@pytest.mark.parametrize("size", [(64, 64), (1024, 2048)])
def test_what_is_held_fits_a_cache(size: tuple[int, int]) -> None:
    columns = axis(size[0] // 8, size[1], False)
    for classes in (2, 19, 150, 1000):
        runs, tiles, _, _ = dense_kernel.column_order(dense_kernel.Taps(columns.low, columns.weight), classes)
        widest = max(runs[a:b, 2].sum() for a, b in itertools.pairwise(tiles[:, 0]))
        assert widest <= 1.1 * max(dense_kernel.TILE // 4, min(dense_kernel.TILE, dense_kernel.LINES // (2 * classes)))
