from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segc.passes.legalize.top_k import LegalizeTopK, parts
from segc.passes.support import evaluate
from tests.helpers.checks import HEAD, HEAD20, check_pass, check_untouched, graph_of


@given(st.integers(1, 500), st.integers(1, 60))
def test_parts_add_up_and_are_never_too_large(k: int, most: int) -> None:
    found = parts(k, most)
    assert sum(found) == k and max(found) <= most and min(found) >= 1 and len(found) == -(-k // most)


@pytest.mark.parametrize("head", [HEAD, HEAD20])
@pytest.mark.parametrize(("axis", "largest"), [(1, 1), (-1, 0), (0, 1)])
def test_parts_choose_what_one_topk_chooses(head: str, axis: int, largest: int) -> None:
    graph = check_pass(
        LegalizeTopK(3),
        head
        + f"""g (float[9,11] x) => (float[A,B] v, int64[A,B] i) <int64[1] k = {{8}}>
        {{ v, i = TopK <axis = {axis}, largest = {largest}> (x, k) }}""",
        None,
    )
    assert {"Pad", "Slice"}.isdisjoint(node.op for node in graph.nodes)  # nothing to cut off


def test_equal_values_come_in_the_order_of_one_topk() -> None:
    text = HEAD + "g (float[1,12] x) => (float[1,7] v, int64[1,7] i) <int64[1] k = {7}> { v, i = TopK (x, k) }"
    whole, split = graph_of(text), graph_of(text)
    assert LegalizeTopK(2).run(split).changes == 1
    feeds = {"x": np.array([[1, 3, 3, 0, 3, 1, 2, 3, 2, 0, 1, 3]], np.float32)}
    want, got = evaluate.outputs(whole, feeds), evaluate.outputs(split, feeds)
    for name in want:
        np.testing.assert_array_equal(got[name], want[name])


def test_sizes_that_are_open_work_too_and_one_output_is_enough() -> None:
    graph = check_pass(
        LegalizeTopK(2),
        HEAD20 + "g (float[N,5] x) => (int64[N,5] i) <int64[1] k = {5}> { v, i = TopK (x, k) }",
        None,
    )
    assert sum(n.op == "TopK" for n in graph.nodes) == 3


BOUNDED = """g (float[A,B] x) => (float[C,D] v, int64[C,D] i)
    <int64[1] at = {AXIS}, int64 most = {8}, int64[1] one = {1}> {
    s = Shape (x)  n = Gather (s, at)  m = Squeeze (n)  k = Min (m, most)  k1 = Reshape (k, one)
    v, i = TopK <axis = AXIS, largest = LARGEST> (x, k1) }"""


@pytest.mark.parametrize("head", [HEAD, HEAD20])
@pytest.mark.parametrize(("axis", "largest"), [(1, 1), (0, 0)])
def test_a_k_that_a_min_bounds_follows_the_size(head: str, axis: int, largest: int) -> None:
    """The sizes tried along the axis are 5, 7, 2, 3, 4 and 11: below, within and above the bound of 8."""
    text = BOUNDED.replace("AXIS", str(axis)).replace("LARGEST", str(largest))
    graph = check_pass(LegalizeTopK(3), head + text, None)
    assert sum(n.op == "TopK" for n in graph.nodes) == 3


@pytest.mark.parametrize("count", [1, 3, 4, 5, 6, 20])
def test_equal_values_under_a_bound_come_in_the_order_of_one_topk(count: int) -> None:
    text = HEAD20 + BOUNDED.replace("AXIS", "1").replace("LARGEST", "1").replace("most = {8}", "most = {5}")
    whole, split = graph_of(text), graph_of(text)
    assert LegalizeTopK(2).run(split).changes == 1
    feeds = {"x": np.random.default_rng(count).integers(0, 3, (2, count)).astype(np.float32)}
    want, got = evaluate.outputs(whole, feeds), evaluate.outputs(split, feeds)
    for name in want:
        np.testing.assert_array_equal(got[name], want[name])


def test_the_min_of_another_library_is_no_bound() -> None:
    graph = graph_of(
        """<ir_version: 9, opset_import: ["" : 17, "other" : 1]> g (float[2,9] x, int64[1] n) => (float[2,B] v)
        <int64[1] most = {8}> { k = other.Min (n, most)  v, i = TopK (x, k) }"""
    )
    result = LegalizeTopK(4).run(graph)
    assert result.changes == 0 and "computed at run time" in result.skips[0].reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("g (float[N,5] x) => (float[N,4] v) <int64[1] k = {4}> { v, i = TopK (x, k) }", None),
        (
            """g (float[N,5] x) => (float[N,B] v) <int64[1] four = {4}> {
            s = Shape (x)  n = Slice (s, four, four)  k = Min (four, n)  v, i = TopK (x, k) }""",
            None,
        ),
        ("g (float[N,5] x, int64[1] k) => (float[N,B] v) { v, i = TopK (x, k) }", "computed at run time"),
        ("g (int64[N,5] x) => (int64[N,5] v) <int64[1] k = {5}> { v, i = TopK (x, k) }", "int64 has no infinity"),
    ],
)
def test_small_and_unknown_k_and_integers_are_left_alone(text: str, reason: str | None) -> None:
    check_untouched(LegalizeTopK(4), HEAD + text, reason)
