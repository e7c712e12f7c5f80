"""Attention in one layer, with keys that come transposed, and what must not become one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest

pytest.importorskip("ncnn")

from segc import ir
from segc.targets.base import Settings
from segc.targets.ncnn import NCNN
from segc.targets.ncnn.build import build

HEAD = '<ir_version: 9, opset_import: ["" : 20]> g (float[1,3,5,8] x) => (float y)'
CONSTANTS = """<int64[3] rows = {1, 15, 8}, int64[4] heads = {1, 15, 2, 4}, float scale = {0.5}, float[8,8] m = {M},
    float[1,2,4,15] one = {K}>"""
CONSTANTS = CONSTANTS.replace("M}", ", ".join(f"{v:.3f}" for v in np.random.default_rng(0).standard_normal(64)) + "}")
CONSTANTS = CONSTANTS.replace("K}", ", ".join(f"{v:.3f}" for v in np.random.default_rng(1).standard_normal(120)) + "}")
Q = "r = Reshape(x, rows)  qh = Reshape(r, heads)  q = Transpose<perm = [0, 2, 1, 3]>(qh)  s = Mul(q, scale) "
V = "n = MatMul(r, m)  vh = Reshape(n, heads)  v = Transpose<perm = [0, 2, 1, 3]>(vh) "
K = "u = MatMul(r, m)  kh = Reshape(u, heads)  k = Transpose<perm = [0, 2, 3, 1]>(kh) "
READ = "a = MatMul(s, k)  p = Softmax(a)  w = MatMul(p, v)  z = ReduceMax(p)  y = Add(w, z)"
REST = "a = MatMul(s, k)  p = Softmax(a)  y = MatMul(p, v)"
BODIES = {
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
    assert [layer.type for layer in build(graph).layers].count("SDPA") == count
    x = np.random.default_rng(2).standard_normal((1, 3, 5, 8)).astype(np.float32)
    want = onnxruntime.InferenceSession(model_of(body).SerializeToString()).run(None, {"x": x})[0]
    emitted = NCNN.emit(model_of(body), tmp_path, Settings())
    got = NCNN.load(tmp_path, emitted.options, 1).run(x)
    np.testing.assert_allclose(got.reshape(want.shape), want, atol=2e-5)
