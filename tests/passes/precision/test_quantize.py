from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime
import pytest

from segc.graph import ir
from segc.passes.precision.quantize import Quantize, parameters, shift_of, symmetric
from segc.passes.support import evaluate
from segc.passes.support.integers import Form, computing, split_gemms
from tests.helpers.checks import HEAD20, apply, check_pass, check_untouched, graph_of
from tests.helpers.quantized_nets import NET, RANGES, ops

FLOAT_RESULTS = Form(rounded_outputs=False)


def inputs(seed: int = 0) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).uniform(-2, 2, (1, 3, 8, 8)).astype(np.float32)}


@pytest.mark.parametrize(("rounded", "changes"), [(True, 3), (False, 4)])
def test_convolutions_and_what_lies_between_become_integers(rounded: bool, changes: int) -> None:
    graph = check_pass(
        Quantize(RANGES, form=Form(rounded_outputs=rounded)), NET, None, changes=changes, same_outputs=False, atol=1
    )
    assert "Relu" not in ops(graph)  # Q cuts off at 0
    before, after = (evaluate.outputs(each, inputs())["y"] for each in (graph_of(NET), graph))
    error = np.abs(before - after).max()
    assert 1e-4 < error < 0.06 * np.abs(before).max()


def fused(graph: gs.Graph, folder: Path) -> Counter[str]:
    """The ops that ONNX Runtime makes of a graph."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "fused.onnx")
    options.log_severity_level = 4
    content = ir.to_model(graph, functions=False).SerializeToString()
    onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "fused.onnx").graph.node)


def test_onnx_runtime_computes_in_integers(tmp_path: Path) -> None:
    graph = graph_of(NET)
    apply(Quantize(RANGES), graph)
    found = fused(graph, tmp_path)
    assert found["QLinearConv"] == 3 and found["QLinearAdd"] == 1
    assert sum(found[op] for op in ("Conv", "FusedConv")) == 1  # before the mask


def test_products_of_matrices_become_integers(tmp_path: Path) -> None:
    text = (
        HEAD20
        + """g (float[4,3] x) => (float[1,2,2,2] y)
        <float[5,3] w = {1, -2, 0.5, 0.25, 1, -1, 0, 2, 1, -1, 1, 1, 2, 2, -2}, float[5] b = {1, 2, 3, 4, 5},
         float[5,5] v = {1,0,0,0,1, 0,1,0,2,0, 0,0,-1,0,0, 0,1,0,1,0, 1,0,0,0,1},
         int64[4] to = {1, 5, 2, 2}, float[2,5,1,1] u = {1, 0, -1, 1, 0, 1, 1, -1, 0, 1}> {
        a = Gemm <transB = 1> (x, w, b)  c = MatMul (a, v)  d = Reshape (c, to)  y = Conv (d, u) }"""
    )
    graph = graph_of(text)
    assert [node.op for node in computing(graph, Form(rounded_outputs=False))] == ["Gemm", "MatMul", "Conv"]
    assert split_gemms(graph) == 1 and ops(graph)["Gemm"] == 0
    x = {"x": np.random.default_rng(1).uniform(-1, 1, (4, 3)).astype(np.float32)}
    before, split = (evaluate.outputs(each, x)["y"] for each in (graph_of(text), graph))
    np.testing.assert_allclose(before, split, rtol=1e-5, atol=1e-5)
    product = next(node.outputs[0].name for node in graph.nodes if node.op == "MatMul" and node.inputs[0].name == "x")
    ranges = (("x", -1.0, 1.0), (product, -6.0, 6.0), ("a", -5.0, 11.0), ("c", -20.0, 20.0), ("d", -20.0, 20.0))
    assert apply(Quantize(ranges), graph).changes == 2
    assert fused(graph, tmp_path)["QLinearMatMul"] == 2
    assert np.abs(before - evaluate.outputs(graph, x)["y"]).max() < 0.06 * np.abs(before).max()


def test_a_resize_keeps_the_scale_of_what_it_reads() -> None:
    graph = graph_of(NET)
    apply(Quantize((*RANGES[:-2], ("t", -1.0, 1.0), RANGES[-1])), graph)
    resize = next(node for node in graph.nodes if node.op == "Resize")
    before, after = resize.inputs[0].inputs[0], resize.outputs[0].outputs[0]
    assert (before.op, after.op) == ("DequantizeLinear", "QuantizeLinear") and before.inputs[1] is after.inputs[1]


def test_weights_have_a_scale_for_each_channel_and_biases_that_of_the_product() -> None:
    graph = graph_of(NET)
    apply(Quantize(RANGES), graph)
    convolution = next(node for node in graph.nodes if node.op == "Conv" and len(node.inputs) == 3)
    weight, bias = (t.inputs[0] for t in convolution.inputs[1:])
    largest = np.array([2, 1, 2, 1], np.float32)
    np.testing.assert_allclose(weight.inputs[1].values, largest / 127, rtol=1e-6)
    assert weight.inputs[0].values.dtype == np.int8 and weight.attrs["axis"] == 0
    np.testing.assert_allclose(bias.inputs[1].values, 4 / 255 * largest / 127, rtol=1e-6)
    np.testing.assert_allclose(bias.inputs[0].values * bias.inputs[1].values, [0.5, 0, -0.25, 1], atol=1e-3)


def test_nodes_that_are_kept_or_without_ranges_stay_in_float32() -> None:
    graph = graph_of(NET)
    names = {node.outputs[0].name: node.name for node in graph.nodes}
    result = apply(Quantize(RANGES, kept=(names["a"],)), graph)
    assert result.changes == 2 and [(s.node, s.reason) for s in result.skips] == [(names["a"], "kept in float32")]
    first = next(node for node in graph.nodes if node.name == names["a"])
    assert isinstance(first.inputs[1], gs.Constant) and first.inputs[0].name == "x"
    missing = graph_of(NET)
    result = apply(Quantize(tuple(row for row in RANGES if row[0] != "c")), missing)
    assert result.changes == 2 and "the range of 'c' is not known" in result.skips[0].reason


def test_convolutions_of_large_strides_stay_in_float32_where_the_runtime_wants_that() -> None:
    text = NET.replace(
        "r = Relu (a)", "d = Conv <strides = [4, 4], kernel_shape = [1, 1]> (a, v)  r = Resize (d, , up)"
    )
    text = text.replace("float[4] scales", "float[4] up = {1, 1, 4, 4}, float[4] scales")
    ranges = (*RANGES, ("d", -7.0, 7.0))
    assert apply(Quantize(ranges, form=Form(rounded_outputs=False)), graph_of(text)).changes == 5
    result = apply(Quantize(ranges, form=Form(rounded_outputs=False, largest_stride=2)), graph_of(text))
    assert result.changes == 4 and "stride above 2 wrongly" in result.skips[0].reason


def test_what_cannot_be_integers_is_left_alone() -> None:
    check_untouched(Quantize(), NET, None)  # no ranges
    check_untouched(Quantize(RANGES), HEAD20 + "g (float[1,2,4,4] x) => (float[1,2,4,4] y) { y = Sin (x) }", None)
    alone = """g (float[1,3,4,4] x) => (float[1,2,4,4] y) <float[2,3,1,1] w = {1,2,3,4,5,6}> { y = Conv (x, w) }"""
    check_untouched(Quantize(RANGES), HEAD20 + alone, None)  # before the mask
    dynamic = HEAD20 + (
        """g (float[1,3,4,4] x, float[2,3,1,1] v) => (float[1,2,4,4] y) <float[2,2,1,1] w = {1, 2, 3, 4}> {
        a = Conv (x, v)  y = Conv (a, w) }"""
    )
    check_untouched(Quantize((*RANGES, ("a", -1.0, 1.0))), dynamic, None)  # weights that are no constant


def test_biases_take_back_the_mean_that_rounded_weights_lose() -> None:
    """With known means of the inputs, the mean output of each channel is that of the float weights."""
    graph, x = graph_of(NET), inputs()
    exact = Quantize((("x", -2.0, 2.0),), form=FLOAT_RESULTS)
    corrected = Quantize((("x", -2.0, 2.0),), form=FLOAT_RESULTS, means=(("x", (0.5, -0.25, 1.0)),))
    for kind in (exact, corrected):
        assert apply(kind, graph_of(NET)).changes == 1
    lost = np.random.default_rng(0).normal(size=(6, 2, 3, 3))
    mean = np.array([1.0, 2.0, 3.0, 4.0])
    shift = shift_of(lost, mean, 2)
    np.testing.assert_allclose(shift[4], (lost[4].sum(axis=(1, 2)) * mean[2:]).sum())
    convolution = next(node for node in graph.nodes if node.outputs[0].name == "a")
    weights, bias = (np.array(t.values) for t in convolution.inputs[1:])
    apply(corrected, graph)
    rounded = convolution.inputs[1].inputs[0]
    integers, scales = (t.values.astype(np.float64) for t in rounded.inputs[:2])
    gone = weights - integers * scales.reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(
        convolution.inputs[2].values, bias + gone[:, :, 0, 0] @ np.array([0.5, -0.25, 1.0]), rtol=1e-5
    )
    assert evaluate.outputs(graph, x)["y"].shape == (1, 2, 16, 16)


def test_one_scale_for_all_weights_of_a_layer() -> None:
    graph = graph_of(NET)
    apply(Quantize(RANGES, per_channel=False), graph)
    convolution = next(node for node in graph.nodes if node.op == "Conv" and len(node.inputs) == 3)
    np.testing.assert_allclose(convolution.inputs[1].inputs[0].inputs[1].values, [2 / 127] * 4, rtol=1e-6)


def test_signed_values_have_zero_point_0_and_keep_the_relu() -> None:
    graph = graph_of(NET)
    apply(Quantize(RANGES, form=replace(FLOAT_RESULTS, signed=True)), graph)
    assert ops(graph)["Relu"] == 1
    zeros = [node.inputs[2].values for node in graph.nodes if node.op == "QuantizeLinear"]
    assert zeros and all(zero.dtype == np.int8 and zero == 0 for zero in zeros)
    assert symmetric(-1.27, 0.5) == (np.float32(0.01), np.int8(0)) and symmetric(0.0, 0.0) == (
        np.float32(1),
        np.int8(0),
    )


def test_scale_and_zero_point_represent_zero_exactly() -> None:
    assert parameters(-1.0, 1.55) == (np.float32(0.01), np.uint8(100))
    assert parameters(0.0, 5.1) == (np.float32(0.02), np.uint8(0))
    assert parameters(2.0, 5.1) == (np.float32(0.02), np.uint8(0))  # 0 is in every range
    assert parameters(-5.1, -2.0) == (np.float32(0.02), np.uint8(255))
    assert parameters(0.0, 0.0) == (np.float32(1), np.uint8(0))
