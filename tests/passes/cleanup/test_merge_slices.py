from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segc.passes.cleanup.merge_slices import MergeSlices
from segc.passes.support.slices import Cut, compose, positions
from tests.helpers.checks import HEAD, check_pass, check_untouched

CONSTANTS = """<int64[1] one = {1}, int64[1] three = {3}, int64[1] four = {4}, int64[1] zero = {0},
    int64[1] minus = {-1}, int64[1] two = {2}, int64[1] end = {9223372036854775807},
    int64[1] start = {-9223372036854775807}>"""


def text(nodes: str, y: str = "float[A,B] y", x: str = "float[6,9] x") -> str:
    return f"{HEAD} g ({x}) => ({y}) {CONSTANTS} {{ {nodes} }}"


def test_cuts_of_two_axes_are_one_slice() -> None:
    check_pass(
        MergeSlices(),
        text("s = Slice (x, one, four, zero)  y = Slice (s, two, end, one)", "float[N,M] y", "float[H,W] x"),
        HEAD
        + """ g (float[H,W] x) => (float[N,M] y) <int64[2] y_starts = {1, 2}, int64[2] y_axes = {0, 1},
        int64[2] y_ends = {4, 9223372036854775807}> { y = Slice (x, y_starts, y_ends, y_axes) }""",
    )


def test_cuts_of_one_axis_are_added_up() -> None:
    check_pass(
        MergeSlices(),
        text("s = Slice (x, one, minus, one, two)  y = Slice (s, one, four, one)"),
        HEAD
        + """ g (float[6,9] x) => (float[6,3] y) <int64[1] y_starts = {3}, int64[1] y_ends = {9}, int64[1] y_axes = {1},
        int64[1] y_steps = {2}> { y = Slice (x, y_starts, y_ends, y_axes, y_steps) }""".replace("[6,3]", "[A,B]"),
    )


def test_a_chain_becomes_one() -> None:
    graph = check_pass(
        MergeSlices(),
        text("a = Slice (x, one, end, zero)  b = Slice (a, one, end, zero)  y = Slice (b, zero, two, zero, one)"),
        None,
        changes=2,
    )
    assert [n.op for n in graph.nodes] == ["Slice"]


@pytest.mark.parametrize(
    ("nodes", "y", "x", "reason"),
    [
        (
            "s = Slice (x, one, end, one)  y = Slice (s, one, four, one)",
            "float[A,B] y",
            "float[6,W] x",
            "both slice axis 1, whose size is unknown",
        ),
        (
            "s = Slice (x, minus, start, one, minus)  y = Slice (s, one, four, one)",
            "float[A,B] y",
            "float[6,9] x",
            "a step is below 1",
        ),
        (
            "s = Slice (x, i, end, one)  y = Slice (s, one, four, zero)",
            "float[A,B] y",
            "float[6,9] x, int64[1] i",
            "the bounds are not constant",
        ),
        (
            "s = Slice (x, one, end, one)  y = Slice (s, one, four, one)  z = Neg (s)",
            "float[A,B] y, float[6,8] z",
            "float[6,9] x",
            "'s' is also used elsewhere",
        ),
        (
            "s = Slice (x, one, end, one)  y = Slice (s, one, four, one)",
            "float[A,B] y, float[6,8] s",
            "float[6,9] x",
            "'s' is also used elsewhere",
        ),
    ],
)
def test_what_cannot_be_merged_says_why(nodes: str, y: str, x: str, reason: str) -> None:
    check_untouched(MergeSlices(), text(nodes, y, x), reason)


BOUND = st.integers(-14, 14)


@given(st.integers(1, 12), BOUND, BOUND, st.integers(1, 4), BOUND, BOUND, st.integers(1, 4))
def test_a_composed_cut_keeps_the_same_cells(size: int, a: int, b: int, s: int, c: int, d: int, t: int) -> None:
    x = np.arange(size)
    cut = compose(Cut(a, b, s), Cut(c, d, t), size)
    np.testing.assert_array_equal(x[list(positions(cut, size))], x[a:b:s][c:d:t])
    assert cut.start >= 0 and cut.step >= 1
