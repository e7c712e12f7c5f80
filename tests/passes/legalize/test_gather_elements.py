from __future__ import annotations

import numpy as np
import onnx.parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segc.graph import ir
from segc.passes.legalize.gather_elements import LegalizeGatherElements, strides
from segc.passes.support import evaluate
from tests.helpers.checks import HEAD, check_pass, check_untouched, graph_of


def rows(batch: str = "2", inner: str = "3") -> str:
    """One index for all channels of a point, as sampling has it."""
    return (
        HEAD
        + f""" g (float[{batch},5,{inner}] x, int64[{batch},4,1] i) => (float[{batch},4,{inner}] y)
        <int64[3] all = {{1, 1, 3}}>
        {{ wide = Expand (i, all)  y = GatherElements <axis = 1> (x, wide) }}"""
    )


def cells(axis: int, indices: str = "0, 2, -1, 1, 1, -3") -> str:
    return (
        HEAD
        + f""" g (float[3,4] x) => (float[2,3] y) <int64[2,3] i = {{{indices}}}>
        {{ y = GatherElements <axis = {axis}> (x, i) }}"""
    )


def with_indices(text: str, seed: int) -> None:
    """Random indices within bounds, some from the end, give the same before and after, bit for bit."""
    before = ir.from_model(onnx.parser.parse_model(text))
    ir.infer_shapes(before)
    after = ir.from_model(onnx.parser.parse_model(text))
    ir.infer_shapes(after)
    assert LegalizeGatherElements().run(after).changes == 1
    ir.cleanup(after)
    rng = np.random.default_rng(seed)
    feeds = {
        "x": rng.standard_normal((2, 5, 3)).astype(np.float32),
        "i": rng.integers(-5, 5, (2, 4, 1)),
    }
    want, got = evaluate.outputs(before, feeds), evaluate.outputs(after, feeds)
    np.testing.assert_array_equal(got["y"], want["y"])


@pytest.mark.parametrize("batch", ["2", "N"])
@pytest.mark.parametrize("cells", ["5", "M"])
def test_an_index_for_all_channels_picks_rows(batch: str, cells: str) -> None:
    for seed in range(3):
        with_indices(rows(batch).replace("5,3] x", f"{cells},3] x"), seed)


def test_rows_are_read_by_one_gather_of_whole_rows() -> None:
    before = ir.from_model(onnx.parser.parse_model(rows()))
    ir.infer_shapes(before)
    LegalizeGatherElements().run(before)
    gathers = [n for n in before.nodes if n.op == "Gather"]
    assert [list(n.inputs[0].shape) for n in gathers] == [[10, 3]]
    assert {"Mul", "Range", "Shape"}.isdisjoint(n.op for n in ir.cleanup(before).nodes)  # the offsets are a constant


def test_the_outer_positions_of_a_static_index_are_numbered_ahead() -> None:
    text = """ g (float[2,M,3] x) => (float[2,4,3] y)
        <int64[2,4,1] i = {0, 1, 1, 0, 0, -1, 1, -2}, int64[3] all = {1, 1, 3}>
        { wide = Expand (i, all)  y = GatherElements <axis = 1> (x, wide) }"""
    ops = [n.op for n in check_pass(LegalizeGatherElements(), HEAD + text, None).nodes]
    assert "Range" not in ops and "Mul" in ops


@pytest.mark.parametrize(
    "nodes",
    [
        "wide = Add (i, more)",
        "wide = other.Expand (i, all)",
        "all2 = Identity (all)  t = Expand (i, all)  wide = Expand (t, all)",
        "two = Squeeze (some, last)  wide = Expand (two, all)",
    ],
    ids=["a sum", "another library's", "of what is expanded already", "of a lower rank"],
)
def test_indices_that_differ_from_channel_to_channel_count_the_cells(nodes: str) -> None:
    """They are no Expand of one index for all channels, so nothing may read rows."""
    text = f"""<ir_version: 9, opset_import: ["" : 17, "other" : 1]>
        g (float[2,5,3] x, int64[2,4,1] i) => (float[2,4,3] y)
        <int64[3] all = {{2, 4, 3}}, int64[1,1,3] more = {{0, -1, -2}}, int64[1] last = {{0}},
         int64[1,4,3] some = {{0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1}}>
        {{ {nodes}  y = GatherElements <axis = 1> (x, wide) }}"""
    before, after = (ir.from_model(onnx.parser.parse_model(text)) for _ in range(2))
    for graph in (before, after):
        ir.infer_shapes(graph)
        next(n for n in graph.nodes if n.op == "GatherElements").inputs[1].shape = [2, 4, 3]
        next(n for n in graph.nodes if n.op == "GatherElements").inputs[1].dtype = np.dtype(np.int64)
    assert LegalizeGatherElements().run(after).changes == 1
    (gather,) = [n for n in after.nodes if n.op == "Gather"]
    assert list(gather.inputs[0].shape) == [30]
    if "other" in nodes:
        return  # nothing runs it
    rng = np.random.default_rng(0)
    feeds = {"x": rng.standard_normal((2, 5, 3)).astype(np.float32), "i": rng.integers(-2, 3, (2, 4, 1))}
    want, got = (evaluate.outputs(ir.cleanup(graph), feeds)["y"] for graph in (before, after))
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_other_indices_count_the_cells(axis: int) -> None:
    check_pass(LegalizeGatherElements(), cells(axis), None)


def test_one_axis_needs_no_arithmetic() -> None:
    check_pass(
        LegalizeGatherElements(),
        HEAD
        + """ g (float[5] x) => (float[3] y) <int64[3] i = {4, -5, 2}>
        { y = GatherElements (x, i) }""",
        HEAD
        + """ g (float[5] x) => (float[3] y) <int64[1] y_flat_shape = {5}, int64[3] y_front = {4, 0, 2}>
        { y_flat = Reshape (x, y_flat_shape)  y = Gather <axis = 0> (y_flat, y_front) }""",
    )


def test_the_int32_indices_of_a_constant_are_widened() -> None:
    check_pass(LegalizeGatherElements(), cells(1).replace("int64[2,3] i", "int32[2,3] i"), None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (cells(1).replace("float[3,4]", "float[H,4]"), "sides that are not static"),
        (cells(1).replace("float[3,4]", "float[3,W]"), "sides that are not static"),
        (
            HEAD + """ g (float[3,4] x, int64[K,3] i) => (float[K,3] y) { y = GatherElements <axis = 1> (x, i) }""",
            "sides that are not static",
        ),
        (
            HEAD
            + """ g (float[N,M,5,3] x, int64[N,M,4,1] i) => (float[N,M,4,3] y) <int64[4] all = {1, 1, 1, 3}>
            { wide = Expand (i, all)  y = GatherElements <axis = 2> (x, wide) }""",
            "several axes of unknown size",
        ),
    ],
)
def test_what_is_left_alone_says_why(text: str, reason: str) -> None:
    check_untouched(LegalizeGatherElements(), text, reason)


def test_an_index_of_unknown_rank_counts_the_cells() -> None:
    graph = graph_of(rows())
    expand = next(n for n in graph.nodes if n.op == "Expand")
    expand.inputs[0].shape = None
    assert LegalizeGatherElements().run(graph).changes == 1
    (gather,) = [n for n in graph.nodes if n.op == "Gather"]
    assert list(gather.inputs[0].shape) == [30]


def test_gather_is_none_of_its_business() -> None:
    check_untouched(
        LegalizeGatherElements(),
        HEAD + """ g (float[3,4] x) => (float[2,4] y) <int64[2] i = {0, 2}> { y = Gather (x, i) }""",
        None,
    )


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_strides_number_every_cell(shape: list[int]) -> None:
    places = np.stack(np.unravel_index(np.arange(np.prod(shape)), shape), axis=-1)
    assert (places @ strides(shape) == np.arange(np.prod(shape))).all()
