"""int8 convolutions of ncnn against ONNX Runtime on the same Q and DQ: kinds, sizes, and what passes int8 on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from segc.errors import CompileError
from segc.graph import ir
from segc.passes.precision.quantize import Quantize
from segc.passes.support import evaluate
from segc.targets.ncnn.emit import emit
from segc.targets.ncnn.files.read_back import read_back, read_param
from segc.targets.ncnn.lower.lower_graph import lower_graph, verify
from segc.targets.ncnn.net.int8 import int8_weights, quantize, take_scales
from segc.targets.ncnn.net.net import Weight
from segc.targets.ncnn.runtime import BIN, PARAM, NcnnSession
from segc.targets.ncnn.target import INT8
from segc.targets.protocol import Settings
from tests.helpers.checks import apply, graph_of
from tests.helpers.quantized_nets import NET, RANGES, ops

IMAGE = (1, 3, 17, 23)


def chain(channels: int, kernel: int, stride: int, dilation: int, group: int, relu: bool) -> gs.Graph:
    """Convolutions a, b and y; b is of this kind. relu: one after a and after b."""
    rng = np.random.default_rng(channels + kernel + group)

    def constant(name: str, *shape: int) -> gs.Constant:
        return gs.Constant(name, (rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32))

    nodes = []

    def add(op: str, name: str, inputs: list[gs.Tensor], **attrs: object) -> gs.Variable:
        out = gs.Variable(name, np.float32)
        nodes.append(gs.Node(op, f"node_{name}", attrs, inputs, [out]))
        return out

    x, pads = gs.Variable("x", np.float32, IMAGE), [dilation * (kernel - 1) // 2] * 4
    a = add("Conv", "a", [x, constant("u", channels, 3, 1, 1), constant("p", channels)])
    a = add("Relu", "r", [a]) if relu else a
    weights = constant("v", channels, channels // group, kernel, kernel)
    b = add(
        "Conv", "b", [a, weights, constant("q", channels)], strides=[stride] * 2, dilations=[dilation] * 2, pads=pads,
        kernel_shape=[kernel] * 2, group=group,
    )  # fmt: skip
    b = add("Relu", "s", [b]) if relu else b
    y = add("Conv", "y", [b, constant("w", 5, channels, 1, 1)])
    graph = ir.from_model(gs.export_onnx(gs.Graph(nodes, [x], [y], opset=20)))
    ir.infer_shapes(graph)
    return graph


def ranges(graph: gs.Graph, x: np.ndarray) -> tuple[tuple[str, float, float], ...]:
    """Of all tensors, on one input."""
    whole = graph.copy()
    whole.outputs = [t for node in whole.nodes for t in node.outputs]
    found = {"x": x, **evaluate.outputs(whole, {"x": x})}
    return tuple((name, float(values.min()), float(values.max())) for name, values in found.items())


def engine(graph: gs.Graph, folder: Path) -> NcnnSession:
    emitted = emit(ir.to_model(graph), folder, Settings(precision="int8"))
    return NcnnSession(folder, emitted.options, 1)


def terms(folder: Path) -> dict[str, str]:
    """int8_scale_term of each layer that has one, by its name."""
    marked = ((line.name, [p for p in line.params if p.startswith("8=")]) for line in read_param(folder / PARAM))
    return {name: found[0][2:] for name, found in marked if found}


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "dilation", "group"),
    [(16, 3, 1, 1, 1), (16, 3, 2, 1, 1), (24, 3, 1, 2, 1), (12, 5, 1, 1, 1), (4, 1, 2, 1, 1), (7, 3, 1, 1, 1),
     (16, 3, 1, 1, 16), (32, 3, 2, 1, 32), (8, 5, 1, 2, 8), (12, 3, 1, 1, 12), (5, 3, 2, 1, 5)],
)  # fmt: skip
def test_ncnn_computes_what_the_quantized_graph_says(
    channels: int, kernel: int, stride: int, dilation: int, group: int, relu: bool, tmp_path: Path
) -> None:
    """Values at a rounding boundary may fall to the other side, so the mean decides."""
    graph = chain(channels, kernel, stride, dilation, group, relu)
    x = np.random.default_rng(1).uniform(-2, 2, IMAGE).astype(np.float32)
    plain = evaluate.outputs(graph, {"x": x})["y"]
    assert apply(Quantize(ranges(graph, x), form=INT8), graph).changes == 3
    expected, found = evaluate.outputs(graph, {"x": x})["y"], engine(graph, tmp_path).run(x)
    scale, rounding = np.abs(expected).max(), np.abs(expected - plain).mean()
    assert np.abs(found - expected).max() < 0.02 * scale
    assert np.abs(found - expected).mean() < 0.2 * rounding > 0
    blocks = group == 1 or channels % 8 == 0
    assert sorted(terms(tmp_path).values()) == sorted(["102", f"{100 * blocks + (2 if group == 1 else 1)}", "2"])


def test_only_convolutions_that_int8_convolutions_read_write_int8(tmp_path: Path) -> None:
    """r goes to an addition too, and s through a resize: both stay float32."""
    graph = graph_of(NET)
    x = np.random.default_rng(2).uniform(-2, 2, (1, 3, 8, 8)).astype(np.float32)
    assert apply(Quantize(RANGES, form=INT8), graph).changes == 4
    expected, found = evaluate.outputs(graph, {"x": x})["y"], engine(graph, tmp_path).run(x)
    assert np.abs(found - expected).max() < 0.04 * np.abs(expected).max()  # its weights make many exact halves
    assert sorted(terms(tmp_path).values()) == ["102", "2", "2", "2"] and terms(tmp_path)["q"] == "102"
    small = (tmp_path / BIN).stat().st_size
    emit(ir.to_model(graph_of(NET)), tmp_path, Settings())
    assert small < (tmp_path / BIN).stat().st_size + 100  # scales beside weights a quarter as large


def test_a_convolution_that_is_kept_in_float32_reads_what_was_not_rounded(tmp_path: Path) -> None:
    graph = chain(16, 3, 1, 1, 1, True)
    x = np.random.default_rng(3).uniform(-2, 2, IMAGE).astype(np.float32)
    assert apply(Quantize(ranges(graph, x), kept=("node_b",), form=INT8), graph).changes == 2
    expected, found = evaluate.outputs(graph, {"x": x})["y"], engine(graph, tmp_path).run(x)
    assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()
    assert terms(tmp_path) == {"a": "2", "y": "2"} or sorted(terms(tmp_path).values()) == ["2", "2"]


def test_groups_of_several_channels_stay_in_float32() -> None:
    graph = chain(8, 3, 1, 1, 2, False)
    x = np.zeros(IMAGE, np.float32)
    result = apply(Quantize(ranges(graph, x + 1), form=INT8), graph)
    assert result.changes == 2 and [skip.reason for skip in result.skips] == [
        "the runtime has one scale for the channels of a group"
    ]


def test_weights_become_the_integers_they_were_rounded_to() -> None:
    rng = np.random.default_rng(4)
    integers = rng.integers(-127, 128, (6, 3, 3, 3)).astype(np.int8)
    integers[:, 0, 0, 0] = 127
    integers[5] = 0
    scales = rng.uniform(0.01, 2, 6).astype(np.float32)
    found, own = int8_weights(integers * scales.reshape(-1, 1, 1, 1), 6)
    assert np.array_equal(found, integers)
    np.testing.assert_allclose(own[:5], scales[:5], rtol=1e-6)
    assert own[5] == 1


def test_scales_leave_the_graph_and_files_are_read_back(tmp_path: Path) -> None:
    graph = graph_of(NET)
    apply(Quantize(RANGES, form=INT8), graph)
    assert ops(graph)["QuantizeLinear"] == 4
    scales = take_scales(graph)
    assert ops(graph)["QuantizeLinear"] == ops(graph)["DequantizeLinear"] == 0
    assert set(scales.values()) >= {np.float32(2 / 127)}
    net = lower_graph(graph)
    convolutions = sum(layer.type == "Convolution" for layer in net.layers)
    assert quantize(net, scales) == convolutions == 4
    verify(net)
    first = next(layer for layer in net.layers if layer.type == "Convolution")
    first.weights[0] = Weight(first.weights[0].values.astype(np.float32), tagged=True)
    with pytest.raises(CompileError, match="fails its check"):
        verify(net)
    emit(ir.to_model(graph_of(NET)), tmp_path, Settings())
    with pytest.raises(CompileError, match="does not hold what was written"):
        read_back(net, tmp_path / PARAM, tmp_path / BIN)
