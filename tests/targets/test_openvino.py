"""Every row of OpenVINO's table: a model with that operator is converted, run, and compared with ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx.numpy_helper
import onnx.parser
import onnxruntime
import pytest

from tests.helpers.calls import python
from tests.helpers.checks import HEAD
from tests.helpers.op_models import BODIES, X, model_with
from tests.helpers.tiny_models import CONV, onnx_file, parsed

pytest.importorskip("openvino")

import openvino

import segc
from segc.errors import CompileError
from segc.graph import ir
from segc.parity.sample_inputs import noise
from segc.passes.legalize.arithmetic import LegalizeArithmetic
from segc.passes.legalize.product_prelu import LegalizeProductPRelu
from segc.passes.performance.winograd_conv import WinogradConv
from segc.runtime.ort import outputs_of
from segc.targets import Settings
from segc.targets.openvino import precisions
from segc.targets.openvino.target import IGNORED_AXES, OPENVINO


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


@pytest.mark.parametrize("op", ["ReduceL1", "ReduceLogSum", "ReduceLogSumExp"])
def test_axes_that_openvino_ignores_are_spelled_otherwise_or_refused(op: str, tmp_path: Path) -> None:
    """Below opset 18 they are an attribute."""
    text = f"g (float[1,3,8,8] x) => (float[1,1,8,8] y) {{ e = Exp(x)  y = {op} <axes = [1], keepdims = 1> (e) }}"
    model = onnx.parser.parse_model(HEAD + text)
    graph = ir.from_model(model)
    ir.infer_shapes(graph)
    assert graph.opset < 18
    assert "which OpenVINO ignores" in str(OPENVINO.why_not(graph.nodes[1]))
    assert LegalizeArithmetic(IGNORED_AXES).run(graph).changes == (op != "ReduceLogSumExp")
    if op == "ReduceLogSumExp":
        return
    assert [OPENVINO.why_not(node) for node in graph.nodes] == [None] * len(graph.nodes)
    emitted = OPENVINO.emit(ir.to_model(ir.cleanup(graph)), tmp_path, Settings())
    x = noise((1, 3, 8, 8))
    (want,) = outputs_of(model.SerializeToString(), {"x": x}).values()
    np.testing.assert_allclose(OPENVINO.load(tmp_path, emitted.options, 1).run(x), want, rtol=1e-5)


@pytest.mark.parametrize("columns", [4, 5])
def test_slopes_behind_a_product_are_not_those_of_its_columns(columns: int, tmp_path: Path) -> None:
    text = f"g (float[1,4,3,6] x, float[6,{columns}] w) => (float[1,4,3,{columns}] y)"
    model = onnx.parser.parse_model(
        HEAD + text + " <float[4,1,1] s = {-1, 0.5, 2, 3}> { p = MatMul (x, w)  y = PRelu (p, s) }"
    )
    weights = np.random.default_rng(0).standard_normal((6, columns)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    del model.graph.input[1]
    graph = ir.from_model(model)
    ir.infer_shapes(graph)
    assert "several slopes" in str(OPENVINO.why_not(graph.nodes[1]))
    (legalize,) = (each for each in OPENVINO.legalize if isinstance(each, LegalizeProductPRelu))
    assert legalize.run(graph).changes == 1
    emitted = OPENVINO.emit(ir.to_model(ir.cleanup(graph), functions=False), tmp_path, Settings())
    x = noise((1, 4, 3, 6))
    (want,) = outputs_of(model.SerializeToString(), {"x": x}).values()
    np.testing.assert_allclose(OPENVINO.load(tmp_path, emitted.options, 1).run(x), want, atol=1e-5)


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


NET = """g (float[1,3,16,24] x) => (float[1,2,16,24] y)
    <float[2,3,1,1] w = {0.301, -0.207, 0.409, -0.511, 0.613, -0.701}> { y = Conv(x, w) }"""


def test_bfloat16_rounds_and_float32_does_not(tmp_path: Path) -> None:
    source = onnx_file(tmp_path, NET)
    x = noise((1, 3, 16, 24))
    exact = outputs_of(source, {"x": x})["y"]
    errors = {}
    for precision in ("fp32", "bf16"):
        made = segc.compile(source, target="openvino", precision=precision, out=tmp_path / precision)
        assert made.manifest.precision == precision
        hint = made.manifest.target.options["INFERENCE_PRECISION_HINT"]
        assert hint == {"fp32": "f32", "bf16": "bf16"}[precision]
        errors[precision] = float(np.abs(segc.load(tmp_path / precision).run(x)["logits"] - exact).max())
    assert errors["fp32"] < 1e-5
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        assert 1e-4 < errors["bf16"] < 0.1


def test_bfloat16_is_not_verified_where_the_processor_has_none() -> None:
    assert precisions.without_bf16(["FP32", "BF16", "INT8"]) is None
    assert precisions.without_bf16(["FP32", "INT8"]) == "this processor has no bfloat16"
    assert precisions.cannot_run(Settings(precision="fp32")) is None


def test_winograd_is_off_in_bfloat16() -> None:
    names = {
        precision: [step.name for step in OPENVINO.configure(OPENVINO, Settings(precision=precision)).legalize]
        for precision in ("fp32", "bf16")
    }
    assert WinogradConv.name in names["fp32"] and WinogradConv.name not in names["bf16"]


FIRST_RUNS = """
import sys, threading
import numpy as np, segc
engine = segc.load(sys.argv[1])
together = threading.Barrier(6)
found = []

def run():
    together.wait()
    found.append(float(engine.run(np.ones((1, 3, 16, 24), np.float32))["logits"].sum()))

threads = [threading.Thread(target=run, daemon=True) for _ in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(60)
assert len(found) == 6 and len(set(found)) == 1, found
"""


def test_the_first_runs_of_a_process_may_come_from_many_threads_at_once(tmp_path: Path) -> None:
    """The bindings wait for themselves when several threads come to their first use of NumPy together."""
    made = segc.compile(onnx_file(tmp_path, NET), target="openvino", out=tmp_path / "b")
    for _ in range(3):
        done = python(FIRST_RUNS, made.path)
        assert done.code == 0, done.err
