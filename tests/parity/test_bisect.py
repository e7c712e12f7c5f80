"""Smallest patterns, of made-up runtimes: ONNX Runtime with nodes changed before it sees them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx.parser
import pytest

from segc.errors import Code, CompileError
from segc.parity import bisect
from segc.runtime.ort import outputs_of
from segc.targets import Settings
from segc.targets.onnxruntime.target import ONNXRUNTIME

TEXT = """<ir_version: 9, opset_import: ["" : 17]> g (float[1,4,6,5] x) => (float[1,4,6,5] y)
    <float[4,4,1,1] w = {1, 2, 3, 4, 5, 6, 7, 8, 8, 7, 6, 5, 4, 3, 2, 1}, float half = {0.5}> {
    a = Conv(x, w)  b = Relu(a)  c = Tanh(b)  d = Mul(c, half)  e = Neg(d)  f = Sin(e)  g1 = Add(f, b)  h = Cos(g1)
    i = Mul(h, x)  y = Sub(i, half)
}"""
MODEL = onnx.parser.parse_model(TEXT)
X = np.random.default_rng(0).standard_normal((1, 4, 6, 5)).astype(np.float32)
Edit = Callable[[onnx.ModelProto], None]


def runtime(edit: Edit) -> bisect.Run:
    def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
        changed = onnx.ModelProto.FromString(model.SerializeToString())
        edit(changed)
        (y,) = outputs_of(changed.SerializeToString(), {model.graph.input[0].name: x}).values()
        return y

    return run


def ops(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def of(model: onnx.ModelProto, op: str) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == op]


def cosine_for_sine(model: onnx.ModelProto) -> None:
    for node in of(model, "Sin"):
        node.op_type = "Cos"


def loses_a_sign_before_a_sine(model: onnx.ModelProto) -> None:
    negated = {node.output[0] for node in of(model, "Neg")}
    if any(node.input[0] in negated for node in of(model, "Sin")):
        for node in of(model, "Neg"):
            node.op_type = "Identity"


def test_one_op_is_found_alone() -> None:
    found = bisect.smallest_pattern(MODEL, X, runtime(cosine_for_sine))
    assert found is not None and found.alone
    assert (ops(found.model), found.value) == (["Sin"], "f")
    assert "the smallest pattern found: Sin on 1x4x6x5 ('f', relative error" in found.words
    wanted = outputs_of(MODEL.SerializeToString(), {"x": X}).keys()
    assert wanted == {"y"}, "the model itself stays"


def test_a_pair_is_found_without_what_lies_around_it() -> None:
    found = bisect.smallest_pattern(MODEL, X, runtime(loses_a_sign_before_a_sine))
    assert found is not None and found.alone
    assert ops(found.model) == ["Neg", "Sin"]
    assert found.model.graph.input[0].name == "d"
    np.testing.assert_allclose(found.x, np.tanh(np.maximum(outputs_of(_upto("a"), {"x": X})["a"], 0)) / 2, rtol=1e-6)


def _upto(name: str) -> bytes:
    model = onnx.ModelProto.FromString(MODEL.SerializeToString())
    model.graph.output[0].name = name
    return model.SerializeToString()


def test_other_values_that_a_pattern_reads_are_constants() -> None:
    def edit(model: onnx.ModelProto) -> None:
        for node in of(model, "Add"):
            node.op_type = "Sub"

    found = bisect.smallest_pattern(MODEL, X, runtime(edit))
    assert found is not None
    assert ops(found.model) == ["Add"]
    assert len(found.model.graph.input) == len(found.model.graph.initializer) == 1


def test_a_fault_that_needs_the_whole_graph_names_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bisect, "MOST", 3)

    def edit(model: onnx.ModelProto) -> None:
        if len(model.graph.node) > 5 and of(model, "Conv"):
            cosine_for_sine(model)

    found = bisect.smallest_pattern(MODEL, X, runtime(edit))
    assert found is not None and not found.alone
    assert found.value == "f" and ops(found.model)[-1] == "Sin"
    assert "'f' of Sin, which is right on its own" in found.words


def test_a_crash_is_a_fault_and_a_refusal_is_not() -> None:
    def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
        if ops(model)[-1] in ("Neg", "Mul"):
            raise CompileError("not this output", code=Code.ENGINE_RUN)
        if of(model, "Tanh"):
            raise CompileError("its process ended", code=Code.ENGINE_PROCESS)
        return runtime(lambda _: None)(model, x)

    found = bisect.smallest_pattern(MODEL, X, run)
    assert found is not None
    assert (ops(found.model), found.error) == (["Tanh"], np.inf)
    assert "a crash)" in found.words


@pytest.mark.parametrize("limit", [1e-3, 1e-6])
def test_a_runtime_that_is_right_has_none(limit: float) -> None:
    assert bisect.smallest_pattern(MODEL, X, runtime(lambda _: None), limit=limit) is None


def test_without_time_the_last_value_is_named() -> None:
    found = bisect.smallest_pattern(MODEL, X, runtime(cosine_for_sine), seconds=-1)
    assert found is not None and not found.alone
    assert found.value == "y"


def test_models_run_in_a_child() -> None:
    run = bisect.in_child(ONNXRUNTIME, Settings(), 1)
    (want,) = outputs_of(MODEL.SerializeToString(), {"x": X}).values()
    np.testing.assert_allclose(run(MODEL, X), want, rtol=1e-5, atol=1e-6)
