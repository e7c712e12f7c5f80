"""Attention in one layer, with keys that come transposed, and what must not become one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest

pytest.importorskip("ncnn")

from segc.graph import ir
from segc.targets.ncnn.lower.lower_graph import lower_graph
from segc.targets.ncnn.target import NCNN
from segc.targets.protocol import Settings

HEAD = '<ir_version: 9, opset_import: ["" : 20]> g (float[1,3,5,8] x) => (float y)'
CONSTANTS = """<int64[3] rows = {1, 15, 8}, int64[4] heads = {1, 15, 2, 4}, float scale = {0.5}, float[8,8] m = {M},
    float[1,2,4,15] one = {K}, int64[3] even = {1, 20, 6}, float[6,6] six = {S}, int64[3] across = {1, 8, 15},
    float three = {3}, float zero = {0}, float[15] fifteen = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}>"""
CONSTANTS = CONSTANTS.replace("M}", ", ".join(f"{v:.3f}" for v in np.random.default_rng(0).standard_normal(64)) + "}")
CONSTANTS = CONSTANTS.replace("K}", ", ".join(f"{v:.3f}" for v in np.random.default_rng(1).standard_normal(120)) + "}")
CONSTANTS = CONSTANTS.replace("S}", ", ".join(f"{v:.3f}" for v in np.random.default_rng(3).standard_normal(36)) + "}")
Q = "r = Reshape(x, rows)  qh = Reshape(r, heads)  q = Transpose<perm = [0, 2, 1, 3]>(qh)  s = Mul(q, scale) "
V = "n = MatMul(r, m)  vh = Reshape(n, heads)  v = Transpose<perm = [0, 2, 1, 3]>(vh) "
K = "u = MatMul(r, m)  kh = Reshape(u, heads)  k = Transpose<perm = [0, 2, 3, 1]>(kh) "
READ = "a = MatMul(s, k)  p = Softmax(a)  w = MatMul(p, v)  z = ReduceMax(p)  y = Add(w, z)"
REST = "a = MatMul(s, k)  p = Softmax(a)  y = MatMul(p, v)"
ONE_HEAD = "r = Reshape(x, ROWS)  u = MatMul(r, m)  k = Transpose<perm = [0, 2, 1]>(u)  n = Sin(u)  s = Cos(u)"
ONE = f"{ONE_HEAD}  a = MatMul(s, k)  p = Softmax(a)  y = MatMul(p, n)"
BODIES = {
    "one head": (ONE.replace("ROWS", "rows"), 1),
    "one head of an even number of rows": (ONE.replace("ROWS", "even").replace("(r, m)", "(r, six)"), 1),
    "one head, keys as they are": (
        "r = Reshape(x, rows)  n = Sin(r)  k = Reshape(n, across)  a = MatMul(r, k)  p = Softmax(a)  y = MatMul(p, n)",
        1,
    ),
    "scaled scores": (ONE.replace("ROWS", "rows").replace("p = Softmax(a)", "b = Mul(a, scale)  p = Softmax(b)"), 1),
    "divided scores": (Q + K + V + REST.replace("p = Softmax(a)", "b = Div(a, three)  p = Softmax(b)"), 1),
    "scores times nothing": (Q + K + V + REST.replace("p = Softmax(a)", "b = Mul(a, zero)  p = Softmax(b)"), 0),
    "scores times a row": (Q + K + V + REST.replace("p = Softmax(a)", "b = Mul(a, fifteen)  p = Softmax(b)"), 0),
    "somebody reads the scores": (
        Q + K + V + REST.replace("p = Softmax(a)", "b = Mul(a, scale)  p = Softmax(b)").replace("y =", "w =")
        + "  z = ReduceMax(a)  y = Add(w, z)",
        0,
    ),
    "heads move": (Q + K + V + REST, 1),
    "the transpose is undone": (Q + "k = Identity(one) " + V + REST, 1),
    "somebody reads the weights": (Q + K + V + READ, 0),
    "another axis": (Q + K + V + REST.replace("Softmax(a)", "Softmax<axis = 2>(a)"), 0),
}  # fmt: skip


def model_of(body: str) -> onnx.ModelProto:
    model = onnx.parser.parse_model(f"{HEAD} {CONSTANTS} {{ {body} }}")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return model


@pytest.mark.parametrize("what", BODIES)
def test_attention_is_one_layer_where_it_may_be(what: str, tmp_path: Path) -> None:
    body, count = BODIES[what]
    graph = ir.from_model(model_of(body))
    ir.infer_shapes(graph)
    assert [layer.type for layer in lower_graph(graph).layers].count("SDPA") == count
    x = np.random.default_rng(2).standard_normal((1, 3, 5, 8)).astype(np.float32)
    want = onnxruntime.InferenceSession(model_of(body).SerializeToString()).run(None, {"x": x})[0]
    emitted = NCNN.emit(model_of(body), tmp_path, Settings())
    got = NCNN.load(tmp_path, emitted.options, 1).run(x)
    np.testing.assert_allclose(got.reshape(want.shape), want, atol=2e-5)


def test_a_transpose_before_a_product_is_the_product_by_the_transpose(tmp_path: Path) -> None:
    body = "r = Reshape(x, rows)  u = MatMul(r, m)  k = Transpose<perm = [0, 2, 1]>(u)  y = MatMul(r, k)"
    graph = ir.from_model(model_of(body))
    ir.infer_shapes(graph)
    net = lower_graph(graph)
    assert "Permute" not in [layer.type for layer in net.layers] and net.layers[-1].params["trans_b"] == 1
    x = np.random.default_rng(2).standard_normal((1, 3, 5, 8)).astype(np.float32)
    want = onnxruntime.InferenceSession(model_of(body).SerializeToString()).run(None, {"x": x})[0]
    emitted = NCNN.emit(model_of(body), tmp_path, Settings())
    np.testing.assert_allclose(NCNN.load(tmp_path, emitted.options, 1).run(x), want, atol=2e-5)


def test_a_transpose_that_somebody_else_reads_stays() -> None:
    body = "r = Reshape(x, rows)  k = Transpose<perm = [0, 2, 1]>(r)  a = MatMul(r, k)  b = MatMul(k, a)  y = Add(b, k)"
    graph = ir.from_model(model_of(body))
    ir.infer_shapes(graph)
    assert not any("trans_b" in layer.params for layer in lower_graph(graph).layers)
