from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segc.graph.invariants import INVARIANTS
from segc.passes.legalize.axes import LegalizeAxes, bounds_inside, from_front
from tests.helpers.checks import HEAD, HEAD20, check_pass, check_untouched, graph_of


def fixed(before: str, after: str, head: str = HEAD20, changes: int = 1) -> None:
    check_pass(LegalizeAxes(), head + before, head + after, changes=changes)


@pytest.mark.parametrize(
    ("op", "out", "want"),
    [
        ("Softmax <axis = -2> (x)", "float[N,3,4]", "Softmax <axis = 1> (x)"),
        ("Softmax (x)", "float[N,3,4]", "Softmax <axis = 2> (x)"),
        ("ArgMax <axis = -2> (x)", "int64[N,1,4]", "ArgMax <axis = 1> (x)"),
        ("Concat <axis = -1> (x, x)", "float[N,3,8]", "Concat <axis = 2> (x, x)"),
        ("Gather <axis = -2> (x, i)", "float[N,2,4]", "Gather <axis = 1> (x, i)"),
        ("Flatten <axis = -1> (x)", "float[M,4]", "Flatten <axis = 2> (x)"),
        ("LayerNormalization (x, s)", "float[N,3,4]", "LayerNormalization <axis = 2> (x, s)"),
        ("OneHot (i, four, values)", "float[2,4]", "OneHot <axis = 1> (i, four, values)"),
    ],
)
def test_an_axis_counts_from_the_front(op: str, out: str, want: str) -> None:
    head = f""" g (float[N,3,4] x) => ({out} y)
        <int64[2] i = {{2, 0}}, float[4] s = {{1, 2, 3, 4}}, int64 four = {{4}}, float[2] values = {{0, 1}}>"""
    fixed(head + f" {{ y = {op} }}", head + f" {{ y = {want} }}")


def test_before_opset_13_softmax_had_another_default() -> None:
    text = HEAD.replace("17", "12") + "g (float[N,3,4] x) => (float[N,3,4] y) { y = Softmax (x) }"
    check_untouched(LegalizeAxes(), text, None)


def test_sets_of_axes_ascend_as_inputs() -> None:
    fixed(
        """ g (float[1,3,1] x) => (float[1,3,1] y, float[3] z, float[1,3,1,1,1] w)
        <int64[2] a = {-1, 0}, int64[2] b = {-1, -2}>
        { y = ReduceMax (x, a)  z = Squeeze (x, a)  w = Unsqueeze (x, b) }""",
        """ g (float[1,3,1] x) => (float[1,3,1] y, float[3] z, float[1,3,1,1,1] w)
        <int64[2] y_axes = {0, 2}, int64[2] z_axes = {0, 2}, int64[2] w_axes = {3, 4}>
        { y = ReduceMax (x, y_axes)  z = Squeeze (x, z_axes)  w = Unsqueeze (x, w_axes) }""",
        changes=3,
    )


def test_sets_of_axes_ascend_as_attributes() -> None:
    fixed(
        """ g (float[2,3,4] x) => (float[1,3,1] y) { y = ReduceMean <axes = [-1, 0]> (x) }""",
        """ g (float[2,3,4] x) => (float[1,3,1] y) { y = ReduceMean <axes = [0, 2]> (x) }""",
        HEAD,
    )


def test_pads_and_sizes_follow_their_axes() -> None:
    fixed(
        """ g (float[1,1,3,4] x) => (float[1,1,6,7] y, float[1,1,5,8] z)
        <int64[4] p = {1, 2, 2, 1}, int64[2] a = {-1, 2}, int64[2] s = {8, 5}>
        { y = Pad (x, p, , a)  z = Resize <axes = [3, -2], mode = "linear"> (x, , , s) }""",
        """ g (float[1,1,3,4] x) => (float[1,1,6,7] y, float[1,1,5,8] z)
        <int64[4] y_pads = {2, 1, 1, 2}, int64[2] y_axes = {2, 3}, int64[2] z_sizes = {5, 8}>
        { y = Pad (x, y_pads, , y_axes)  z = Resize <axes = [2, 3], mode = "linear"> (x, , , z_sizes) }""",
        changes=2,
    )


def test_the_axis_of_a_cumulative_sum_is_an_input() -> None:
    fixed(
        " g (float[N,3] x) => (float[N,3] y) <int64 a = {-1}> { y = CumSum (x, a) }",
        " g (float[N,3] x) => (float[N,3] y) <int64 y_axis = {1}> { y = CumSum (x, y_axis) }",
    )


def test_bounds_of_a_slice_lie_inside_and_follow_their_axes() -> None:
    fixed(
        """ g (float[N,5,9] x) => (float[N,3,4] y)
        <int64[2] s = {-4, -4}, int64[2] e = {9223372036854775807, -1}, int64[2] a = {-1, 1}, int64[2] t = {1, 1}>
        { y = Slice (x, s, e, a, t) }""",
        """ g (float[N,5,9] x) => (float[N,3,4] y)
        <int64[2] y_starts = {1, 5}, int64[2] y_ends = {4, 9}, int64[2] y_axes = {1, 2}, int64[2] t = {1, 1}>
        { y = Slice (x, y_starts, y_ends, y_axes, t) }""",
    )


def test_a_slice_backwards_ends_before_the_first_cell() -> None:
    fixed(
        """ g (float[N,5] x) => (float[N,5] y)
        <int64[1] s = {-1}, int64[1] e = {-99}, int64[1] a = {1}, int64[1] t = {-1}>
        { y = Slice (x, s, e, a, t) }""",
        """ g (float[N,5] x) => (float[N,5] y)
        <int64[1] y_starts = {4}, int64[1] y_ends = {-6}, int64[1] a = {1}, int64[1] t = {-1}>
        { y = Slice (x, y_starts, y_ends, a, t) }""",
    )


def test_bounds_of_an_unknown_side_stay_but_the_axis_does_not() -> None:
    fixed(
        """ g (float[2,W] x) => (float[2,V] y) <int64[1] s = {-3}, int64[1] e = {-1}, int64[1] a = {-1}>
        { y = Slice (x, s, e, a) }""",
        """ g (float[2,W] x) => (float[2,V] y) <int64[1] s = {-3}, int64[1] e = {-1}, int64[1] y_axes = {1}>
        { y = Slice (x, s, e, y_axes) }""",
    )


def test_bounds_computed_at_run_time_stay_and_keep_their_order() -> None:
    text = """ g (float[4,6] x, int64[2] s) => (float[P,Q] y) <int64[2] e = {99, 99}, int64[2] a = {0, -1}>
        { y = Slice (x, s, e, a) }"""
    graph = graph_of(HEAD20 + text)
    assert LegalizeAxes().run(graph).changes == 1
    assert graph.nodes[0].inputs[3].values.tolist() == [0, 1]
    check_untouched(LegalizeAxes(), HEAD20 + text.replace("{0, -1}", "{-1, 0}"), "its axes are out of order")
    check_untouched(LegalizeAxes(), HEAD20 + text.replace("{0, -1}", "{0, 1}"), None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("g (float[2,3] x, int64[1] a) => (float[P,Q] y) { y = ReduceMax (x, a) }", "axes are computed at run time"),
        (
            "g (float[2,3] x, int64[4] p) => (float[P,Q] y) <int64[2] a = {-1, 0}> { y = Pad (x, p, , a) }",
            "pads are computed at run time",
        ),
        (
            "g (float[2,3] x, int64[2] s) => (float[P,Q] y) { y = Resize <axes = [1, 0]> (x, , , s) }",
            "sizes are computed at run time",
        ),
        (
            "g (float[2,3] x, int64[r] s) => (float[P,Q] y) { t = Reshape (x, s)  y = Softmax (t) }",
            "the rank of 't' is unknown",
        ),
        (
            """g (float[2,3] x) => (float[2,3] y) <float[4] r = {0, 0, 1, 1}, int64[2] s = {3, 2}>
            { y = Resize <axes = [1, 0], coordinate_transformation_mode = "tf_crop_and_resize"> (x, r, , s) }""",
            "it has a roi along axes out of order",
        ),
    ],
)
def test_what_is_left_alone_says_why(text: str, reason: str) -> None:
    check_untouched(LegalizeAxes(), HEAD20 + text, reason)


@pytest.mark.parametrize(
    "text",
    [
        "g (float[2,3] x) => (float[1,1] y) { y = ReduceMax (x) }",
        "g (float[2,3] x) => (float[4,3] y) <int64[4] p = {1, 0, 1, 0}> { y = Pad (x, p) }",
        "g (float[4,6] x, int64[2] s) => (float[P,Q] y) <int64[2] e = {9, 9}> { y = Slice (x, s, e) }",
        "g (float[4,6] x, int64[2] e) => (float[P,Q] y) <int64[2] s = {-2, -1}> { y = Slice (x, s, e) }",
        """g (float[4,6] x, int64[1] t) => (float[P,6] y) <int64[1] s = {-1}, int64[1] e = {-9}, int64[1] a = {0}>
        { y = Slice (x, s, e, a, t) }""",
    ],
    ids=["all axes", "pads of all axes", "computed starts", "computed ends", "computed steps"],
)
def test_what_names_no_axes_or_is_computed_stays_without_a_word(text: str) -> None:
    check_untouched(LegalizeAxes(), HEAD20 + text, None)


def test_an_empty_slice_backwards_has_one_form() -> None:
    for start, end in ((2, 3), (2, 2), (-9, -9), (-1, -1)):
        assert bounds_inside(start, end, -1, 5) == (0, 0)


def test_axes_in_order_are_none_of_our_business() -> None:
    text = """ g (float[2,3] x) => (float[1,3] y, float[2,2] z) <int64[1] a = {0}, int64[1] o = {1}, int64[1] e = {3}>
        { y = ReduceMax (x, a)  z = Slice (x, o, e, o) }"""
    check_untouched(LegalizeAxes(), HEAD20 + text, None)


def test_the_fact_names_what_breaks_it() -> None:
    text = "g (float[2,3] x) => (float[1,1] y) <int64[2] a = {1, 0}> { y = ReduceMax (x, a) }"
    assert "has axes [1, 0]" in str(INVARIANTS["axes in order"](graph_of(HEAD20 + text)))
    assert INVARIANTS["axes in order"](graph_of(HEAD20 + text.replace("{1, 0}", "{0, 1}"))) is None


anywhere = st.one_of(st.integers(-12, 12), st.sampled_from([-(2**63), 2**63 - 1]))


@given(anywhere, anywhere, st.sampled_from([-3, -2, -1, 1, 2, 3]), st.integers(1, 9))
def test_bounds_inside_cut_the_same_cells(start: int, end: int, step: int, side: int) -> None:
    low, high = bounds_inside(start, end, step, side)
    assert 0 <= low <= side and (step < 0 or low <= high <= side)
    # ONNX clamps bounds as Python does, but for an end before the first cell of a slice backwards
    want = list(range(side))[slice(start, end, step)]
    assert list(range(side))[slice(low, high, step)] == want
    assert bounds_inside(low, high, step, side) == (low, high)


@given(st.lists(st.integers(-4, 3), max_size=4))
def test_axes_from_the_front_are_the_same_axes(axes: list[int]) -> None:
    front = from_front(axes, 4)
    shape = (2, 3, 5, 7)
    assert [shape[a] for a in axes] == [shape[a] for a in front] and all(0 <= a < 4 for a in front)
    assert np.array_equal(from_front(front, 4), front)
