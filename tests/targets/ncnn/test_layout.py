"""Which ncnn shape a tensor gets, and which groups of axes a transpose moves."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segc.targets.ncnn.lower.layout import layout_of_shape, merge_axes
from segc.targets.ncnn.lower.ops_movement import two_steps
from segc.targets.ncnn.net.net import Refused


@pytest.mark.parametrize(
    ("sizes", "shape", "axes"),
    [
        ((1, 64, 32, 40), (64, 32, 40), (1, 2, 3)),
        ((1, 64, None, None), (64, None, None), (1, 2, 3)),
        ((1, 77, 32), (77, 32), (1, 2)),
        ((3, 1, 4, 77, 32), (3, 4, 77, 32), (0, 2, 3, 4)),
        ((4, 64, 8, 8), (4, 64, 8, 8), (0, 1, 2, 3)),
        ((1, 2, 3, 4, 5), (2, 3, 4, 5), (1, 2, 3, 4)),
        ((1, 8), (8,), (1,)),
        ((8,), (8,), (0,)),
        ((), (1,), ()),
        ((2, 3, 4, 5, 6), (720,), None),
        ((2, 3, None, 5, 6), (None,), None),
    ],
)
def test_the_batch_goes_and_at_most_four_axes_stay(
    sizes: tuple[int | None, ...], shape: tuple[int | None, ...], axes: tuple[int, ...] | None
) -> None:
    assert (layout_of_shape(sizes).shape, layout_of_shape(sizes).axes) == (shape, axes)


def test_an_axis_without_a_place_is_refused() -> None:
    assert layout_of_shape((1, 4, 5)).position(2) == 1
    for sizes in ((1, 4, 5), (2, 3, 4, 5, 6)):
        with pytest.raises(Refused, match="axis 0 has no place"):
            layout_of_shape(sizes).position(0)


SIZES = st.lists(st.integers(1, 3), min_size=1, max_size=6)


@given(SIZES, st.randoms())
def test_moving_the_groups_moves_the_numbers(sizes: list[int], random: object) -> None:
    perm = list(range(len(sizes)))
    random.shuffle(perm)  # type: ignore[attr-defined]
    x = np.arange(np.prod(sizes)).reshape(sizes)
    groups, order = merge_axes(sizes, perm)
    grouped = x.reshape([int(np.prod([sizes[axis] for axis in group])) for group in groups])
    np.testing.assert_array_equal(grouped.transpose(order).reshape(-1), x.transpose(perm).reshape(-1))
    assert all(sizes[axis] > 1 for group in groups for axis in group)


@pytest.mark.parametrize("perm", [p for p in permutations(range(5)) if len(merge_axes([2] * 5, p)[0]) == 5])
def test_five_groups_move_in_two_steps_of_four(perm: tuple[int, ...]) -> None:
    first, second = two_steps(list(perm))
    x = np.arange(2 * 3 * 4 * 5 * 6).reshape(2, 3, 4, 5, 6)
    np.testing.assert_array_equal(x.transpose(first).transpose(second), x.transpose(perm))
    assert max(len(merge_axes([2] * 5, step)[0]) for step in (first, second)) <= 4


def test_more_than_six_groups_are_refused() -> None:
    with pytest.raises(Refused, match="7 groups"):
        two_steps([6, 5, 4, 3, 2, 1, 0])
