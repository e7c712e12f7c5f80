from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segc.passes.cleanup.cancel_reshapes import CancelReshapes, constant_shape, same, shape_before_transpose
from tests.helpers.checks import HEAD, check_pass, check_untouched, graph_of

CONSTANTS = """<int64[2] flat = {6, 4}, int64[3] cube = {2, 3, 4}, int64[2] free = {-1, 4}, int64[1] zero = {0},
    int64[1] two = {2}, int64[4] four = {2, 3, 2, 2}, float[4] row = {1, 2, 3, 4}, float half = {0.5},
    float[4,5] m = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2}, float[6,1] col = {1, 2, 3, 4, 5, 6},
    int64[3] cube5 = {2, 3, 5}, int64[2] pair = {1, 0}, float[1,1,1] wide = {3}>"""


def text(nodes: str, y: str = "float[2,3,4] y", x: str = "float[2,3,4] x", head: str = HEAD) -> str:
    return f"{head} g ({x}) => ({y}) {CONSTANTS} {{ {nodes} }}"


@pytest.mark.parametrize(
    "first",
    [
        "Reshape (x, flat)",
        "Reshape (x, free)",
        "Flatten <axis = 1> (x)",
        "Unsqueeze (x, zero)",
    ],
)
def test_two_in_a_row_are_one_reshape(first: str) -> None:
    check_pass(
        CancelReshapes(),
        text(f"r = {first}  y = Reshape (r, four)", "float[2,3,2,2] y"),
        HEAD
        + """ g (float[2,3,4] x) => (float[2,3,2,2] y) <int64[4] y_shape = {2, 3, 2, 2}>
        { y = Reshape (x, y_shape) }""",
    )


@pytest.mark.parametrize(
    ("there", "back"), [("Reshape (a, flat)", "Reshape (r, cube)"), ("Unsqueeze (a, two)", "Squeeze (r, two)")]
)
def test_there_and_back_is_nothing(there: str, back: str) -> None:
    check_pass(
        CancelReshapes(),
        text(f"a = Relu (x)  r = {there}  b = {back}  y = Neg (b)"),
        text("a = Relu (x)  y = Neg (a)"),
    )


def test_a_transpose_of_axes_of_size_one_counts_as_a_reshape() -> None:
    graph = check_pass(
        CancelReshapes(),
        text("t = Transpose <perm = [1, 0, 2]> (x)  y = Reshape (t, c)", "float[3,4] y", "float[1,3,4] x").replace(
            "<int64[2] flat", "<int64[2] c = {3, 4}, int64[2] flat"
        ),
        None,
    )
    assert [n.op for n in graph.nodes] == ["Reshape"]


def test_a_transpose_that_moves_data_does_not() -> None:
    nodes = "t = Transpose <perm = [1, 0, 2]> (x)  y = Reshape (t, flat)"
    check_untouched(CancelReshapes(), text(nodes, "float[6,4] y"), None)


@pytest.mark.parametrize(
    ("middle", "last", "y"),
    [
        ("Relu (r)", "cube", "float[2,3,4] y"),
        ("Mul (r, half)", "cube", "float[2,3,4] y"),
        ("Add (r, row)", "cube", "float[2,3,4] y"),
        ("MatMul (r, m)", "cube5", "float[2,3,5] y"),
        ("LayerNormalization (r, row, row)", "cube", "float[2,3,4] y"),
        ("Softmax (r)", "cube", "float[2,3,4] y"),
    ],
)
def test_what_works_by_element_or_row_does_not_keep_two_apart(middle: str, last: str, y: str) -> None:
    nodes = f"r = Reshape (x, flat)  f = {middle}  y = Reshape (f, {last})"
    graph = check_pass(CancelReshapes(), text(nodes, y), None, atol=1e-5)
    assert [n.op for n in graph.nodes] == [middle.split()[0]]


def test_users_that_all_reshape_again_share_no_first_reshape() -> None:
    nodes = """r = Reshape (x, flat)  a = Relu (r)  y = Reshape (a, four)  b = Add (r, row)  z = Reshape (b, cube)"""
    graph = check_pass(CancelReshapes(), text(nodes, "float[2,3,2,2] y, float[2,3,4] z"), None, changes=2)
    assert sorted(n.op for n in graph.nodes) == ["Add", "Relu", "Reshape"]


def test_axes_of_one_leave_before_a_transpose() -> None:
    nodes = """r = Reshape (x, big)  t = Transpose <perm = [3, 1, 2, 0, 4]> (r)  y = Squeeze (t, m2)"""
    whole = text(nodes, "float[2,3,1,2] y", "float[3,4] x").replace(
        "<int64[2] flat", "<int64[5] big = {1, 3, 1, 2, 2}, int64[1] m2 = {-2}, int64[2] flat"
    )
    graph = check_pass(CancelReshapes(), whole, None)
    assert [n.op for n in graph.nodes] == ["Reshape", "Transpose"]


def test_one_unknown_size_is_left_to_the_reshape() -> None:
    check_pass(
        CancelReshapes(),
        text("r = Unsqueeze (x, zero)  y = Squeeze (r, two)", "float[1,N,4] y", "float[N,1,4] x"),
        HEAD
        + """ g (float[N,1,4] x) => (float[1,N,4] y) <int64[3] y_shape = {1, -1, 4}> { y = Reshape (x, y_shape) }""",
    )


def test_a_symbol_in_its_place_is_copied() -> None:
    check_pass(
        CancelReshapes(),
        text("r = Unsqueeze (x, two)  y = Squeeze (r, last)", "float[N,M,1] y", "float[N,M,1,1] x").replace(
            "<int64[2] flat", "<int64[2] last = {2, 3}, int64[2] flat"
        ),
        HEAD
        + """ g (float[N,M,1,1] x) => (float[N,M,1] y) <int64[3] y_shape = {0, 0, 1}> { y = Reshape (x, y_shape) }""",
    )


@pytest.mark.parametrize(
    ("nodes", "y", "x", "reason"),
    [
        (
            "r = Unsqueeze (x, zero)  y = Squeeze (r, s)",
            "float[1,N,M] y",
            "float[N,M,1] x",
            "two sizes of 'y' are unknown",
        ),
    ],
)
def test_two_unknown_sizes_stay_and_say_why(nodes: str, y: str, x: str, reason: str) -> None:
    whole = text(nodes, y, x).replace("<int64[2] flat", "<int64[1] s = {3}, int64[2] flat")
    check_untouched(CancelReshapes(), whole, reason)


@pytest.mark.parametrize(
    "nodes",
    [
        "r = Reshape (x, flat)  f = Add (r, col)  y = Reshape (f, cube)",
        "r = Reshape (x, flat)  f = CumSum (r, half0)  y = Reshape (f, cube)",
        "r = Reshape (x, flat)  f = Add (r, wide)  y = Reshape (f, cube)",
        "r = Reshape (x, half2)  f = Softmax (r)  y = Reshape (f, cube)",
    ],
)
def test_what_needs_the_shape_keeps_it(nodes: str) -> None:
    whole = text(nodes).replace("<int64[2] flat", "<int64 half0 = {0}, int64[2] half2 = {3, 8}, int64[2] flat")
    check_untouched(CancelReshapes(), whole, None)


def test_a_value_that_is_an_output_keeps_the_reshape_before_it() -> None:
    nodes = "r = Reshape (x, flat)  f = Relu (r)  y = Reshape (f, four)"
    check_untouched(CancelReshapes(), text(nodes, "float[2,3,2,2] y, float[6,4] f"), None)


SIZES = st.lists(st.integers(1, 4), min_size=1, max_size=5)


@given(st.data(), SIZES)
def test_dropping_axes_of_one_before_or_behind_a_transpose_is_the_same(data: st.DataObject, sizes: list[int]) -> None:
    x = np.arange(int(np.prod(sizes))).reshape(sizes)
    order = data.draw(st.permutations(range(len(sizes))))
    turned = x.transpose(order)
    wanted = [s for s in turned.shape if s != 1]
    for _ in range(data.draw(st.integers(0, 2))):
        wanted.insert(data.draw(st.integers(0, len(wanted))), 1)
    shape, after = shape_before_transpose(wanted, [a for a in order if sizes[a] != 1])
    np.testing.assert_array_equal(x.reshape(shape).transpose(after), turned.reshape(wanted))


@given(SIZES, st.data())
def test_the_constant_shape_gives_the_wanted_sizes(sizes: list[int], data: st.DataObject) -> None:
    names = [data.draw(st.sampled_from([s, f"d{at}"])) for at, s in enumerate(sizes)]
    shape = constant_shape(names, names)
    assert shape is not None
    filled = [sizes[at] if s == 0 else s for at, s in enumerate(shape)]
    assert list(np.zeros(sizes).reshape(filled).shape) == sizes
    assert same(names, names)


def test_same_is_careful() -> None:
    assert not same([2, "N"], [2, 3, 1]) and not same([2, "N"], [3, "N"]) and not same(["A", "B"], ["B", "A"])
    assert same([2, "N"], [2, None]) and not same([0, "N"], [0, None]) and not same(None, [1])
    assert constant_shape(None, [1]) is None and constant_shape([1], None) is None
    assert constant_shape([0, 2], [2, 0]) is None and constant_shape(["A", "B"], ["B", "A"]) is None


def test_two_transposes_are_left_to_the_pass_that_merges_them() -> None:
    nodes = "t = Transpose <perm = [1, 0, 2]> (x)  y = Transpose <perm = [0, 2, 1]> (t)"
    check_untouched(CancelReshapes(), text(nodes, "float[3,4,1] y", "float[1,3,4] x"), None)


@pytest.mark.parametrize(
    ("nodes", "y", "x"),
    [
        ("a = Relu (x)  b = Neg (a)  y = Reshape (b, flat)", "float[6,4] y", "float[2,3,4] x"),
        ("r = Reshape (x, cube)  t = Transpose <perm = [1, 0, 2]> (r)  y = Relu (t)", "float[3,2,4] y", "float[6,4] x"),
        ("a = Relu (x)  t = Transpose <perm = [1, 0]> (a)  y = Unsqueeze (t, zero)", "float[1,4,6] y", "float[6,4] x"),
    ],
)
def test_a_relu_is_no_reshape(nodes: str, y: str, x: str) -> None:
    check_untouched(CancelReshapes(), text(nodes, y, x), None)


def test_a_reshape_after_a_transpose_that_joins_axes_stays() -> None:
    nodes = "r = Reshape (x, cube)  t = Transpose <perm = [1, 0, 2]> (r)  y = Reshape (t, flat)"
    check_untouched(CancelReshapes(), text(nodes, "float[6,4] y", "float[6,4] x"), None)


def test_unknown_sizes_around_a_transpose_stay() -> None:
    nodes = "r = Unsqueeze (x, zero)  t = Transpose <perm = [2, 1, 0]> (r)  y = Squeeze (t, two)"
    check_untouched(CancelReshapes(), text(nodes, "float[4,N] y", "float[N,4] x"), None)


def test_a_reshape_of_another_domain_is_no_reshape() -> None:
    graph = graph_of(text("r = Reshape (x, flat)  y = Reshape (r, four)", "float[2,3,2,2] y"))
    graph.nodes[0].domain = "other"
    result = CancelReshapes().run(graph)
    assert (result.changes, result.skips, len(graph.nodes)) == (0, [], 2)


def test_scalars_keep_the_axis_they_got() -> None:
    nodes = "r = Unsqueeze (x, zero)  f = Relu (r)  y = Unsqueeze (f, zero)"
    check_untouched(CancelReshapes(), text(nodes, "float[1,1] y", "float x"), None)


def test_a_row_that_is_computed_keeps_the_reshape_before_it() -> None:
    nodes = "r = Reshape (x, flat)  f = Add (r, z)  y = Reshape (f, cube)"
    check_untouched(CancelReshapes(), text(nodes, x="float[2,3,4] x, float[4] z"), None)
