"""The IR keeps numbers, names and origins on the way in and out."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.checker
import onnx.numpy_helper
import onnx.parser
import onnx_graphsurgeon as gs
import pytest

from segc.graph import ir, source_info
from tests.helpers.run_graph import run
from tests.helpers.tiny_models import CONV, DYNAMIC_CONV, parsed

X = np.random.default_rng(0).standard_normal((1, 3, 8, 12)).astype(np.float32)
CHAIN = """g (float[N,3,H,W] x) => (float[N,2,H,W] y) <float[2,3,1,1] w = {1, -2, 3, -4, 5, -6}> {
    [first] a = Conv(x, w)
    [second] b = Relu(a)
    half = Constant<value_float = 0.5>()
    y = Mul(b, half)
}"""


def test_a_round_trip_keeps_numbers_names_and_shapes() -> None:
    graph = ir.from_model(parsed(CHAIN))
    model = ir.to_model(graph)
    onnx.checker.check_model(model, full_check=True)
    again = ir.from_model(model)
    np.testing.assert_array_equal(run(graph, {"x": X})[0], run(again, {"x": X})[0])
    w = np.array([1, -2, 3, -4, 5, -6], np.float32).reshape(2, 3)
    expected = np.maximum(np.einsum("oc,nchw->nohw", w, X), 0) * np.float32(0.5)
    np.testing.assert_allclose(run(again, {"x": X})[0], expected, atol=1e-6)
    assert [n.name for n in again.nodes] == [n.name for n in graph.nodes] == ["first", "second", "Mul/y"]
    assert list(again.inputs[0].shape) == ["N", 3, "H", "W"]


def test_constant_nodes_become_constants() -> None:
    graph = ir.from_model(parsed(CHAIN))
    assert [n.op for n in graph.nodes] == ["Conv", "Relu", "Mul"]
    value = ir.constant(graph.nodes[-1].inputs[1])
    assert value is not None and value == np.float32(0.5)
    assert ir.constant(graph.inputs[0]) is None


def test_a_constant_that_is_the_output_stays_a_node() -> None:
    text = "g (float[1] x) => (float[1] y) { y = Constant<value_floats = [3.0]>() }"
    assert [n.op for n in ir.from_model(parsed(text)).nodes] == ["Constant"]


def test_origins_survive_the_round_trip_and_are_left_out_unless_asked_for() -> None:
    model = parsed(CONV)
    stack = 'File "/opt/site-packages/pkg/net.py", line 7, in forward'
    model.graph.node[0].metadata_props.add(key="pkg.torch.onnx.stack_trace", value=stack)
    graph = ir.from_model(model)
    assert source_info.of(graph.nodes[0]).source == "pkg/net.py:7 forward"
    kept = ir.from_model(ir.to_model(graph, origins=True))
    assert source_info.of(kept.nodes[0]) == source_info.of(graph.nodes[0])
    assert not ir.to_model(graph).graph.node[0].metadata_props


def test_functions_of_foreign_domains_are_inlined() -> None:
    model = onnx.parser.parse_model("""<ir_version: 9, opset_import: ["" : 20, "mine" : 1]>
        g (float[1,3,8,12] x) => (float[1,3,8,12] y) { a = mine.Twice(x)  y = mine.Twice(a) }
        <domain: "mine", opset_import: ["" : 20]> Twice (x) => (y) { y = Add(x, x) }""")
    graph = ir.from_model(model)
    assert [n.op for n in graph.nodes] == ["Add", "Add"]
    np.testing.assert_array_equal(run(graph, {"x": X})[0], 4 * X)
    assert [o.domain for o in ir.to_model(graph).opset_import] == [""]


def test_dialect_ops_bring_their_bodies_only_when_asked_for() -> None:
    text = "g (float[1,3,8,12] x) => (float[1,3,2,2] y) { y = segc.AdaptiveAvgPool2d<output_size = [2, 2]>(x) }"
    graph = ir.from_model(parsed(text))
    assert [f.name for f in ir.to_model(graph).functions] == ["AdaptiveAvgPool2d"]
    assert not ir.to_model(graph, functions=False).functions
    again = ir.from_model(ir.to_model(graph))
    assert [(n.domain, n.op) for n in again.nodes] == [("segc", "AdaptiveAvgPool2d")]


def test_a_weightless_model_has_types_for_weights_and_the_same_structure() -> None:
    graph = ir.from_model(parsed(CONV))
    light = ir.weightless_model(graph, limit=4)
    assert [i.name for i in light.graph.input] == ["x", "w"]
    assert not light.graph.initializer
    assert [[d.dim_value for d in i.type.tensor_type.shape.dim] for i in light.graph.input][1] == [2, 3, 1, 1]
    assert [n.op_type for n in light.graph.node] == ["Conv"]
    assert [t.name for t in ir.weightless_model(graph, limit=6).graph.initializer] == ["w"]
    assert ir.constant(graph.nodes[0].inputs[1]) is not None  # the graph keeps its own


def test_shapes_are_inferred_through_standard_and_dialect_ops() -> None:
    graph = ir.from_model(
        parsed("""g (float[1,3,9,13] x) => (y) {
        a = segc.AdaptiveAvgPool2d<output_size = [2, -1]>(x)
        b = Relu(a)
        size = Constant<value_ints = [5, 7]>()
        y = segc.ResizeArgMax<coordinate_transformation_mode = "half_pixel">(b, size) }""")
    )
    assert ir.infer_shapes(graph) > 0
    tensors = graph.tensors()
    assert list(tensors["a"].shape) == list(tensors["b"].shape) == [1, 3, 2, 13]
    assert (list(tensors["y"].shape), tensors["y"].dtype) == ([1, 1, 5, 7], np.int64)
    assert ir.infer_shapes(graph) == 0


def test_static_shape_needs_every_dimension() -> None:
    graph = ir.from_model(parsed(DYNAMIC_CONV))
    assert ir.static_shape(graph.inputs[0]) is None
    assert ir.static_shape(gs.Variable("v", np.float32)) is None
    assert ir.static_shape(graph.nodes[0].inputs[1]) == (2, 3, 1, 1)


@pytest.mark.parametrize("branch", ["then_branch", "else_branch"])
def test_nodes_of_subgraphs_are_seen(branch: str) -> None:
    other = "else_branch" if branch == "then_branch" else "then_branch"
    graph = ir.from_model(
        parsed(f"""g (float[1,3,8,8] x, bool yes) => (float[1,3,8,8] y) {{
        y = If (yes) <{branch} = t () => (float[1,3,8,8] a) {{ a = Erf(x) }},
                      {other} = e () => (float[1,3,8,8] b) {{ b = Relu(x) }}> }}""")
    )
    assert sorted(n.op for n in ir.nodes(graph)) == ["Erf", "If", "Relu"]
    assert all(n.name for n in ir.nodes(graph))
