from __future__ import annotations

import onnx.checker
import pytest

from segc.graph import ir
from segc.passes.masks.fold_argmax import FoldArgMax
from segc.passes.masks.lower_resize_argmax import LowerResizeArgMax
from tests.helpers.checks import HEAD, HEAD20, apply, check_numbers, check_pass, check_untouched, graph_of


def test_a_static_size_becomes_a_plain_resize() -> None:
    check_pass(
        LowerResizeArgMax(),
        HEAD
        + """g (float[1,3,6,7] x) => (int64[1,1,12,14] y) <int64[2] size = {12, 14}>
        { y = segc.ResizeArgMax <coordinate_transformation_mode = "half_pixel"> (x, size) }""",
        HEAD
        + """g (float[1,3,6,7] x) => (int64[1,1,12,14] y) <int64[4] y_sizes = {1, 3, 12, 14}> {
            y_large = Resize <mode = "linear", coordinate_transformation_mode = "half_pixel"> (x, , , y_sizes)
            y = ArgMax <axis = 1, keepdims = 1> (y_large)
        }""",
    )


@pytest.mark.parametrize("head", [HEAD, HEAD20])
@pytest.mark.parametrize("coordinates", ["asymmetric", "half_pixel", "align_corners", "pytorch_half_pixel"])
def test_a_computed_size_works_for_every_opset(head: str, coordinates: str) -> None:
    graph = check_pass(
        LowerResizeArgMax(),
        head
        + f"""g (float[N,3,H,W] x) => (int64[N,A,B] y) <int64[2] add = {{3, 4}}, int64[1] two = {{2}},
        int64[1] four = {{4}}, int64[1] axes = {{1}}> {{
            s = Shape (x)  i = Slice (s, two, four)  size = Add (i, add)
            k = segc.ResizeArgMax <coordinate_transformation_mode = "{coordinates}"> (x, size)  y = Squeeze (k, axes)
        }}""",
        None,
    )
    argmax = next(n for n in graph.nodes if n.op == "ArgMax")
    assert argmax.attrs["keepdims"] == 0 and not [n for n in graph.nodes if n.op == "Squeeze"]
    assert ("Concat" in [n.op for n in graph.nodes]) == (head == HEAD)  # from opset 18 on, Resize takes axes


def test_a_result_that_others_read_keeps_its_channel() -> None:
    graph = check_pass(
        LowerResizeArgMax(),
        HEAD
        + """g (float[1,3,6,7] x) => (int64[1,12,14] y, int64[1,1,12,14] k) <int64[2] s = {12, 14}, int64[1] axes = {1}>
        { k = segc.ResizeArgMax <coordinate_transformation_mode = "half_pixel"> (x, s)  y = Squeeze (k, axes) }""",
        None,
    )
    assert [n.op for n in graph.nodes] == ["Resize", "ArgMax", "Squeeze"]


def test_a_graph_without_the_op_is_left_alone() -> None:
    check_untouched(
        LowerResizeArgMax(), HEAD + "g (float[N,3] x) => (int64[N,1] y) { y = ArgMax <axis = 1> (x) }", None
    )


@pytest.mark.parametrize("opset", [11, 12, 13])
def test_what_was_fused_in_an_old_opset_is_valid_there(opset: int) -> None:
    text = (
        HEAD.replace("17", str(opset))
        + """g (float[1,3,6,7] x) => (int64[1,1,12,14] y) <float[0] none = {}, int64[4] big = {1, 3, 12, 14}>
        { b = Resize <mode = "linear"> (x, none, none, big)  y = ArgMax <axis = 1> (b) }"""
    )
    original, graph = graph_of(text), graph_of(text)
    assert [apply(step, graph).changes for step in (FoldArgMax(), LowerResizeArgMax())] == [1, 1]
    onnx.checker.check_model(ir.to_model(graph), full_check=True)
    check_numbers(original, graph)
