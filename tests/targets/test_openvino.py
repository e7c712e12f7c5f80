"""Every row of OpenVINO's table: a model with that operator is converted, run, and compared with ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from tests.helpers.op_models import BODIES, X, model_with
from tests.helpers.tiny_models import CONV, parsed

pytest.importorskip("openvino")

from segc.errors import CompileError
from segc.graph import ir
from segc.targets import Settings
from segc.targets.openvino.target import OPENVINO


@pytest.mark.parametrize("op", sorted(OPENVINO.ops))
def test_every_row_converts_and_computes_what_onnx_runtime_computes(op: str, tmp_path: Path) -> None:
    model = model_with(op)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    want = onnxruntime.InferenceSession(model.SerializeToString(), options).run(["y"], {"x": X})[0]
    emitted = OPENVINO.emit(model, tmp_path, Settings())
    got = OPENVINO.load(tmp_path, emitted.options, 1).run(X)
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, atol=1e-4 * max(1.0, float(np.abs(want).max())))


def test_the_table_and_the_models_name_the_same_operators() -> None:
    assert BODIES.keys() <= OPENVINO.ops.keys()


def test_control_flow_is_refused() -> None:
    graph = ir.from_model(
        parsed("""g (float[1,3,8,8] x, bool yes) => (float[1,3,8,8] y) {
        y = If (yes) <then_branch = t () => (float[1,3,8,8] a) { a = Erf(x) },
                      else_branch = e () => (float[1,3,8,8] b) { b = Relu(x) }> }""")
    )
    assert "no If in openvino" in str(OPENVINO.why_not(graph.nodes[0]))


def test_emitting_leaves_the_engine_only_and_names_no_counters(tmp_path: Path) -> None:
    model = parsed(CONV)
    del model.opset_import[1]
    contents = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        emitted = OPENVINO.emit(model, tmp_path / name, Settings())
        assert sorted(p.name for p in (tmp_path / name).iterdir()) == sorted(emitted.files)
        contents.append([(tmp_path / name / file).read_bytes() for file in emitted.files])
    assert contents[0] == contents[1]
    assert emitted.options == {"INFERENCE_PRECISION_HINT": "f32"}


def test_what_cannot_be_converted_or_loaded_is_a_compile_error(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="OpenVINO cannot convert the graph"):
        OPENVINO.emit(parsed("g (float[1,3] x) => (float[1,3] y) { y = Nope(x) }"), tmp_path, Settings())
    assert not any(tmp_path.iterdir())
    (tmp_path / "model.xml").write_text("<net>")
    with pytest.raises(CompileError, match="OpenVINO cannot load the engine"):
        OPENVINO.load(tmp_path, {}, 1)


def test_engines_with_several_inputs_and_outputs_are_called_by_name(tmp_path: Path) -> None:
    text = """g (float[2,3] b, int64[N] a, bool flag) => (int64[N] twice, float[2,3] same, float[2,3] y) {
        twice = Add(a, a)  same = Identity(b)  n = Cast<to = 1>(flag)  y = Mul(b, n)
    }"""
    emitted = OPENVINO.emit(parsed(text), tmp_path, Settings())
    session = OPENVINO.load(tmp_path, emitted.options, 1)
    a = np.arange(4, dtype=np.longlong)  # NumPy's other int64
    b = np.arange(6, dtype=np.float32).reshape(2, 3)
    got = session.run_named({"a": a, "b": b, "flag": np.array(True)})  # type: ignore[attr-defined]
    assert got["twice"].tolist() == [0, 2, 4, 6] and got["twice"].dtype == np.int64
    np.testing.assert_array_equal(got["same"], b)
    np.testing.assert_array_equal(got["y"], b)
