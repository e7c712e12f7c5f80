"""Files of opsets newer than a target's: a lower number where ops mean the same, exact rules for the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

import segc
from segc.commands.optimize import optimize
from segc.errors import SourceError
from segc.graph import ir
from segc.passes.support.newer_opsets import lower_newer
from segc.runtime.ort import outputs_of
from tests.helpers.tiny_models import onnx_file

SHAPE = "float[1,4,6,6]"
S = "float[4] s = {1, -2, 0.5, 3}, float[4] t = {0.1, 0, -1, 2}, float[6] r = {1, 2, 3, -1, 0.5, 4}"
NODES = {
    "only a number": (28, "a = Transpose<perm = [0, 1, 3, 2]>(x) b = Softplus(a) y = Round(b)"),
    "pools and pads": (
        25, "p = Constant<value_ints = [0, 0, 1, 1, 0, 0, 1, 1]>() q = Pad(x, p)"
        " y = MaxPool<kernel_shape = [3, 3]>(q)",
    ),
    "a cast with its default": (28, "c = Cast<to = 6, round_mode = \"up\">(x) y = Cast<to = 1>(c)"),
    "group normalization": (21, "y = GroupNormalization<num_groups = 2>(x, s, t)"),
    "swish": (24, "y = Swish(x)"),
    "a steep swish": (24, "y = Swish<alpha = 1.7>(x)"),
    "root mean square": (23, "y = RMSNormalization(x, r)"),
    "root mean square of two axes": (
        23, "i = Constant<value_ints = [1, 6]>() w = Reshape(r, i)"
        " y = RMSNormalization<axis = 2, epsilon = 0.01>(x, w)",
    ),
    "attention": (23, "y = Attention(x, x, x)"),
    "attention in a window": (25, "y = Attention<left_window_size = 1, right_window_size = 2>(x, x, x)"),
    "attention to the last two": (25, "y = Attention<left_window_size = 1, is_causal = 1>(x, x, x)"),
    "a remainder with the sign of the divisor": (28, "y = Mod(x, r)"),
    "a quantized copy": (
        21, "e = Constant<value_float = 0.05>() z = Constant<value = int8 {3}>() q = QuantizeLinear(x, e, z)"
        " y = DequantizeLinear(q, e, z)",
    ),
}  # fmt: skip


def model(opset: int, nodes: str) -> onnx.ModelProto:
    text = f'<ir_version: 10, opset_import: ["" : {opset}]> g ({SHAPE} x) => ({SHAPE} y) <{S}> {{ {nodes} }}'
    return onnx.parser.parse_model(text)


@pytest.mark.parametrize("opset, nodes", NODES.values(), ids=NODES.keys())
def test_the_numbers_are_those_of_the_newer_opset(opset: int, nodes: str) -> None:
    given = model(opset, nodes)
    x = np.random.default_rng(0).standard_normal((1, 4, 6, 6)).astype(np.float32)
    want = outputs_of(given.SerializeToString(), {"x": x})["y"]
    graph = ir.from_model(given)
    ir.infer_shapes(graph)
    assert lower_newer(graph, 20) == [f"converted from opset {opset} to 20"]
    made = ir.to_model(graph)
    onnx.checker.check_model(made, full_check=True)
    assert [o.version for o in made.opset_import] == [20]
    np.testing.assert_allclose(outputs_of(made.SerializeToString(), {"x": x})["y"], want, rtol=1e-5, atol=1e-6)


REFUSED = {
    "an op that is new": (26, "a = Constant<value = int64 {2}>() y = CumProd(x, a)", "opset 20 has no CumProd"),
    "a window in the padding": (
        22, "i = Constant<value_ints = [1, 36, 2, 2]>() w = Reshape(x, i) p = AveragePool<kernel_shape = [3, 3],"
        " strides = [3, 3], pads = [1, 1, 1, 1], ceil_mode = 1>(w) j = Constant<value_ints = [1, 4, 3, 3]>()"
        " v = Reshape(p, j) k = Constant<value_ints = [0, 0, 0, 0, 0, 0, 3, 3]>() y = Pad(v, k)", "has the shape",
    ),
    "a softcap": (23, "y = Attention<softcap = 2.0>(x, x, x)", "softcap"),
    "blocks": (
        21, "e = Constant<value = float[1,4,6,3] {" + "0.1, " * 71 + "0.1}>() q = QuantizeLinear<axis = 3,"
        " block_size = 2, output_dtype = 3>(x, e) y = DequantizeLinear<axis = 3, block_size = 2>(q, e)", "block_size",
    ),
}  # fmt: skip


@pytest.mark.parametrize("opset, nodes, said", REFUSED.values(), ids=REFUSED.keys())
def test_what_has_no_older_form_is_refused_by_name(opset: int, nodes: str, said: str) -> None:
    graph = ir.from_model(model(opset, nodes))
    ir.infer_shapes(graph)
    with pytest.raises(SourceError, match=said):
        lower_newer(graph, 20)


def test_a_graph_that_is_not_newer_stays() -> None:
    graph = ir.from_model(model(20, "y = Relu(x)"))
    assert lower_newer(graph, 20) == [] and graph.opset == 20


def newer(folder: Path, op: str) -> Path:
    text = f"""g (float[1,3,8,12] x) => (float[1,2,8,12] y) <float[2,3,1,1] w = {{1, -2, 3, -4, 5, -6}}>
        {{ z = Conv(x, w) y = {op}(z) }}"""
    return onnx_file(folder, text, opset=25)


@pytest.mark.parametrize("op", ["Elu", "Swish"])  # ONNX Runtime runs the one in opset 25, the other not
def test_a_newer_file_compiles(tmp_path: Path, op: str) -> None:
    bundle = segc.compile(newer(tmp_path, op), out=tmp_path / "b", target="ncnn")
    assert bundle.report["status"] == "ok"
    assert any("opset 25 becomes 20" in note for note in bundle.report["notes"])


def test_a_newer_file_is_optimized_for_a_target(tmp_path: Path) -> None:
    done = optimize(newer(tmp_path, "Softplus"), target="openvino", out=tmp_path / "out.onnx", check=True)
    assert "converted from opset 25 to 20" in done.notes
