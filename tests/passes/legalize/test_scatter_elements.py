from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segc.passes.legalize.scatter_elements import LegalizeScatterElements, has_duplicates
from segc.passes.support import evaluate
from tests.helpers.checks import HEAD, check_pass, check_untouched, graph_of

HEAD11 = HEAD.replace("17", "11")


def constant(indices: str, extra: str = "") -> str:
    return (
        HEAD
        + f""" g (float[2,5] x, float[2,2] u) => (float[2,5] y) <int64[2,2] i = {{{indices}}}>
        {{ y = ScatterElements <axis = -1{extra}> (x, i, u) }}"""
    )


def points(last: str = "6", head: str = HEAD) -> str:
    """What PointRend does: refine the three most uncertain cells, in all channels."""
    return (
        head
        + f""" g (float[2,4,{last}] x, float[2,{last}] doubt, float[2,4,3] u) => (float[2,4,{last}] y)
        <int64[1] k = {{3}}, int64[3] all = {{2, 4, 3}}, int64[1] one = {{1}}>
        {{ v, i = TopK (doubt, k)  row = Unsqueeze (i, one)  rows = Expand (row, all)
           y = ScatterElements <axis = 2> (x, rows, u) }}"""
    )


def test_distinct_constants_are_compared_and_multiplied() -> None:
    check_pass(
        LegalizeScatterElements(),
        constant("0, 3, 4, 1"),
        HEAD
        + """ g (float[2,5] x, float[2,2] u) => (float[2,5] y)
        <int64[2,2] i = {0, 3, 4, 1}, int64[1] y_column_axes = {2}, int64[5] y_cells = {0, 1, 2, 3, 4},
         int64[1] y_row_axes = {1}, int64[1] y_put_axes = {1}>
        {
            y_column = Unsqueeze (i, y_column_axes)
            y_equal = Equal (y_column, y_cells)
            y_number = Cast <to = 1> (y_equal)
            y_row = Unsqueeze (u, y_row_axes)
            y_product = MatMul (y_row, y_number)
            y_put = Squeeze (y_product, y_put_axes)
            y_hit = ReduceMax <axes = [1], keepdims = 0> (y_number)
            y_any = Cast <to = 9> (y_hit)
            y = Where (y_any, y_put, x)
        }""",
    )


def test_the_channels_of_pointrend_share_one_comparison() -> None:
    graph = check_pass(LegalizeScatterElements(), points(), None)
    assert [n.op for n in graph.nodes].count("Expand") == 0
    (equal,) = [n for n in graph.nodes if n.op == "Equal"]
    assert list(equal.outputs[0].shape) == [2, 1, 3, 6]


def test_opset_11_has_all_that_is_needed() -> None:
    text = (
        HEAD11
        + """ g (float[2,5] x, float[2,2] u) => (float[2,5] y) <int64[2,2] i = {0, 3, 4, 1}>
        { y = ScatterElements <axis = -1> (x, i, u) }"""
    )
    check_pass(LegalizeScatterElements(), text, None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (constant("0, 3, 1, 1"), "the indices 'i' repeat"),
        (constant("0, 3, 1, -4"), "the indices 'i' repeat"),
        (constant("0, 3, 1, -1"), "the indices 'i' count from the end"),
        (constant("0, 3, 4, 1", ', reduction = "add"'), "reduction is add"),
        (constant("0, 1, 1, 0").replace("axis = -1", "axis = 0"), "it scatters along axis 0"),
        (constant("0, 3, 4, 1").replace("float[", "int32["), "'x' is int32"),
        (constant("0, 3, 4, 1").replace("float[2,5]", "float[2,W]"), "'x' is not static"),
        (constant("0, 3, 4, 1").replace("float[2,5]", "float[3,5]"), "into a part of [3, 5]"),
        (
            HEAD
            + """ g (float[2,5] x, float[2,2] u, int64[2,2] i) => (float[2,5] y)
            { y = ScatterElements <axis = 1> (x, i, u) }""",
            "the indices 'i' are not known to differ",
        ),
        (
            HEAD
            + """ g (float[3,5] x, float[2,5] d, float[3,5] u) => (float[3,5] y)
            <int64[1] k = {1}, int64[2] all = {3, 5}>
            { v, i = TopK <axis = 0> (d, k)  j = Expand (i, all)  y = ScatterElements <axis = 1> (x, j, u) }""",
            "the indices 'j' are not known to differ",
        ),
        (
            HEAD
            + """ g (float[2,5] x, float[2,5] d, float[2,3] u) => (float[2,5] y)
            <int64[1] k = {1}, int64[2] all = {2, 3}>
            { v, i = TopK (d, k)  j = Expand (i, all)  y = ScatterElements <axis = 1> (x, j, u) }""",
            "the indices 'j' are not known to differ",
        ),
        (
            HEAD
            + """ g (float[1,3] x) => (float[1,3] y) <int64[1,1] i = {1}, float[1,1] zero = {0}, float[1,1] u = {inf}>
            { y = ScatterElements <axis = 1> (x, i, u) }""",
            "'u' is not finite",
        ),
    ],
)
def test_what_is_left_alone_says_why(text: str, reason: str) -> None:
    check_untouched(LegalizeScatterElements(), text, reason)


def test_too_large_a_comparison_is_left_alone() -> None:
    check_untouched(LegalizeScatterElements(limit=35), points(), "it would compare 36 numbers, the limit is 35")


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 30), st.integers(0, 99))
def test_points_come_back_where_they_were_taken(cells: int, seed: int) -> None:
    original, graph = graph_of(points(str(cells))), graph_of(points(str(cells)))
    assert LegalizeScatterElements().run(graph).changes == 1
    rng = np.random.default_rng(seed)
    feeds = {
        name: rng.standard_normal(shape).astype(np.float32)
        for name, shape in (("x", (2, 4, cells)), ("doubt", (2, cells)), ("u", (2, 4, 3)))
    }
    want, got = (evaluate.outputs(g.cleanup().toposort(), feeds)["y"] for g in (original, graph))
    np.testing.assert_array_equal(got, want)


@given(st.lists(st.integers(-6, 5), min_size=1, max_size=6))
def test_repetition_counts_cells_not_numbers(indices: list[int]) -> None:
    named = [i % 6 for i in indices]
    assert has_duplicates(np.array([indices]), 6) == (len(set(named)) < len(named))
