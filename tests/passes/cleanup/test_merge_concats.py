from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segc.passes.cleanup.merge_concats import MergeConcats, Piece, adjacent_runs
from tests.helpers.checks import HEAD, check_pass, check_untouched, graph_of

CONSTANTS = """<int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2}, int64[1] four = {4},
    int64[1] end = {9223372036854775807}, int64[2] halves = {4, 2}>"""


def text(nodes: str, y: str = "float[2,B] y", x: str = "float[2,6] x, float[2,3] z") -> str:
    return f"{HEAD} g ({x}) => ({y}) {CONSTANTS} {{ {nodes} }}"


def test_nested_concats_are_one() -> None:
    check_pass(
        MergeConcats(),
        text("a = Concat <axis = 1> (x, z)  b = Relu (z)  y = Concat <axis = -1> (b, a, z)"),
        text("b = Relu (z)  y = Concat <axis = -1> (b, x, z, z)"),
    )


def test_slices_side_by_side_are_what_they_were_cut_from() -> None:
    nodes = "r = Relu (x)  a = Slice (r, zero, four, one)  b = Slice (r, four, end, one)  y = Concat <axis = 1> (a, b)"
    check_pass(MergeConcats(), text(nodes, "float[2,6] y"), text("y = Relu (x)", "float[2,6] y"))


def test_slices_of_a_part_are_one_slice() -> None:
    nodes = "a = Slice (x, one, two, one)  b = Slice (x, two, four, one)  y = Concat <axis = 1> (z, a, b)"
    check_pass(
        MergeConcats(),
        text(nodes, "float[2,6] y"),
        text(
            "y_1_4 = Slice (x, y_1_4_starts, y_1_4_ends, y_1_4_axes)  y = Concat <axis = 1> (z, y_1_4)", "float[2,6] y"
        ).replace(
            "<int64[1] zero",
            "<int64[1] y_1_4_starts = {1}, int64[1] y_1_4_ends = {4}, int64[1] y_1_4_axes = {1}, int64[1] zero",
        ),
    )


def test_a_split_that_is_put_together_again_goes() -> None:
    nodes = "r = Relu (x)  a, b = Split <axis = 1> (r, halves)  c = Concat <axis = 1> (a, b)  y = Neg (c)"
    check_pass(MergeConcats(), text(nodes, "float[2,6] y"), text("r = Relu (x)  y = Neg (r)", "float[2,6] y"))


def test_the_split_stays_where_a_piece_is_needed() -> None:
    nodes = "a, b = Split <axis = 1> (x, halves)  c = Concat <axis = 1> (a, b)  y = Neg (c)  q = Relu (a)"
    graph = check_pass(MergeConcats(), text(nodes, "float[2,6] y, float[2,4] q"), None)
    assert sorted(n.op for n in graph.nodes) == ["Neg", "Relu", "Split"]


@pytest.mark.parametrize("parts", ["x, x, a", "x, a", "a, x, a", "a, a", "b, x"])
def test_the_whole_is_no_piece_of_itself(parts: str) -> None:
    nodes = f"a, b = Split <axis = 1> (x, halves)  y = Concat <axis = 1> ({parts})"
    check_untouched(MergeConcats(), text(nodes), None)


@pytest.mark.parametrize(
    ("nodes", "y", "reason"),
    [
        ("a = Concat <axis = 1> (x, z)  y = Concat <axis = 0> (a, a)", "float[4,9] y", None),
        (
            "a = Concat <axis = 1> (x, z)  y = Concat <axis = 1> (a, z)  q = Relu (a)",
            "float[2,12] y, float[2,9] q",
            "'a' is also used elsewhere",
        ),
        ("a = Concat <axis = 1> (x, z)  y = Concat <axis = 1> (a, z)", "float[2,12] y, float[2,9] a", "'a' is also"),
        ("a, b = Split <axis = 1> (x, halves)  y = Concat <axis = 1> (b, a)", "float[2,6] y", None),
        (
            "a = Slice (x, zero, four, one)  b = Slice (x, two, end, one)  y = Concat <axis = 1> (a, b)",
            "float[2,8] y",
            None,
        ),
        (
            "a = Slice (x, zero, two, one)  b = Slice (x, four, end, one)  y = Concat <axis = 1> (a, b)",
            "float[2,4] y",
            None,
        ),
        (
            "a = Slice (x, zero, four, one, two)  b = Slice (x, four, end, one)  y = Concat <axis = 1> (a, b)",
            "float[2,4] y",
            None,
        ),
        (
            "a = Slice (x, one, two, one)  b = Slice (x, two, end, one)  y = Concat <axis = 1> (a, b)  q = Relu (a)",
            "float[2,5] y, float[2,1] q",
            "also used elsewhere",
        ),
        (
            "a = Slice (x, zero, one, zero)  b = Slice (x, one, two, zero)  y = Concat <axis = 1> (a, b)",
            "float[1,12] y",
            None,
        ),
    ],
)
def test_what_only_looks_alike_stays(nodes: str, y: str, reason: str | None) -> None:
    check_untouched(MergeConcats(), text(nodes, y), reason)


def test_an_unknown_size_stays() -> None:
    nodes = "a = Slice (x, zero, four, one)  b = Slice (x, four, end, one)  y = Concat <axis = 1> (a, b)"
    check_untouched(MergeConcats(), text(nodes, "float[2,B] y", "float[2,W] x"), None)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 6), st.integers(1, 3)), min_size=1, max_size=6))
def test_runs_put_together_the_same_cells(cuts: list[tuple[int, int, int]]) -> None:
    import onnx_graphsurgeon as gs

    sources = [gs.Variable(f"s{at}", np.float32, (9,)) for at in range(2)]
    pieces = [Piece(gs.Variable(f"p{i}"), sources[at], low, low + many) for i, (at, low, many) in enumerate(cuts)]
    flat = [(id(p.source), cell) for p in pieces for cell in range(p.start, p.end)]
    together = [(id(run[0].source), c) for run in adjacent_runs(pieces) for c in range(run[0].start, run[-1].end)]
    assert together == flat


def test_a_concat_of_one_is_left_to_the_pass_that_removes_it() -> None:
    check_untouched(MergeConcats(), text("a = Relu (x)  y = Concat <axis = 1> (a)", "float[2,6] y"), None)


def test_parts_of_another_axis_are_no_pieces() -> None:
    nodes = "a, b = Split <axis = 0> (x)  y = Concat <axis = 1> (a, b)"
    check_untouched(MergeConcats(), text(nodes, "float[1,12] y"), None)


def test_pieces_of_unknown_rank_stay() -> None:
    graph = graph_of(text("a, b = Split <axis = 1> (x, halves)  y = Concat <axis = 1> (a, b)", "float[2,6] y"))
    for tensor in graph.tensors().values():
        if tensor.name in "aby":
            tensor.shape = None
    assert MergeConcats().run(graph).changes == 0 and len(graph.nodes) == 2
