from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segc.graph import ir
from segc.passes.support.builder import RewriteNotApplicable
from segc.passes.support.distinct_indices import has_duplicates, require_distinct
from tests.helpers.checks import HEAD, graph_of


def indices_of(text: str) -> gs.Tensor:
    """The indices of the graph's only ScatterElements."""
    graph = graph_of(text)
    ir.infer_shapes(graph)
    (node,) = [node for node in graph.nodes if node.op == "ScatterElements"]
    found: gs.Tensor = node.inputs[1]
    return found


def constant(indices: str) -> str:
    return (
        HEAD
        + f""" g (float[2,5] x, float[2,2] u) => (float[2,5] y) <int64[2,2] i = {{{indices}}}>
        {{ y = ScatterElements <axis = -1> (x, i, u) }}"""
    )


def top(nodes: str, sizes: str = "int64[2] all = {2, 5}", axis: str = "1", weights: str = "") -> str:
    """Indices `i` of a TopK of rows of five, followed by `nodes` that make `j` from them."""
    return (
        HEAD
        + f""" g (float[2,5] x, float[1,5] d, float[2,3] u) => (float[2,5] y)
        <int64[1] k = {{1}}, int64[1] three = {{3}}, {sizes}{weights}>
        {{ v, i = TopK <axis = {axis}> (d, {"k" if axis == "0" else "three"})
           {nodes}  y = ScatterElements <axis = 1> (x, j, u) }}"""
    )


@pytest.mark.parametrize(
    "text",
    [
        constant("0, 3, 4, 1"),
        top("j = Expand (i, all)", "int64[2] all = {2, 3}"),
        top("a = Unsqueeze (i, at)  b = Identity (a)  c = Cast <to = 6> (b)  j = Expand (c, all)",
            "int64[1] at = {0}, int64[3] all = {1, 2, 3}"),
    ],
    ids=["a constant", "an Expand of a TopK", "a TopK that was moved"],
)  # fmt: skip
def test_indices_that_are_known_to_differ(text: str) -> None:
    require_distinct(indices_of(text), 5)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (constant("0, 3, 1, 1"), "the indices 'i' repeat"),
        (constant("0, 3, 1, -4"), "the indices 'i' repeat"),
        (constant("0, 3, 1, -1"), "the indices 'i' count from the end"),
        (HEAD + """ g (float[2,5] x, float[2,2] u, int64[2,2] i) => (float[2,5] y)
            { y = ScatterElements <axis = 1> (x, i, u) }""", "the indices 'i' are not known to differ"),
        (top("j = Expand (i, all)", axis="0"), "the indices 'j' are not known to differ"),  # along another axis
        (top("w = Cast <to = 7> (v)  j = Expand (w, all)", "int64[2] all = {2, 3}"), "not known to differ"),  # values
        (top("a = Slice (i, zero, k, k)  j = Expand (a, all)", "int64[2] all = {2, 3}, int64[1] zero = {0}"),
         "not known to differ"),  # by an op that may repeat
        (HEAD + """ g (float[2,5] x, float[2,5] d, float[2,3] u) => (float[2,5] y)
            <int64[1] k = {1}, int64[2] all = {2, 3}>
            { v, i = TopK (d, k)  j = Expand (i, all)  y = ScatterElements <axis = 1> (x, j, u) }""",
         "the indices 'j' are not known to differ"),  # one index three times
        (top("t = Unsqueeze (i, last)  j = Expand (t, all)", "int64[1] last = {2}, int64[3] all = {2, 3, 3}"),
         "not known to differ"),  # along a new last axis
        (top("j = MyIndices.Expand (i, all)", "int64[2] all = {2, 3}").replace(
            'opset_import: [', 'opset_import: ["MyIndices" : 1, '), "not known to differ"),
    ],
)  # fmt: skip
def test_others_say_why(text: str, reason: str) -> None:
    with pytest.raises(RewriteNotApplicable, match=reason.replace("[", r"\[")):
        require_distinct(indices_of(text), 5)


@given(st.lists(st.integers(-6, 5), min_size=1, max_size=6))
def test_repetition_counts_cells_not_numbers(indices: list[int]) -> None:
    named = [i % 6 for i in indices]
    assert has_duplicates(np.array([indices]), 6) == (len(set(named)) < len(named))
