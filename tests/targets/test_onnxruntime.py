"""The capability table of ONNX Runtime against the kernel registry of the installed package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.defs
import onnx_graphsurgeon as gs
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import get_all_opkernel_def

import segc
from segc.errors import CompileError
from segc.graph import ir
from segc.targets import Settings
from segc.targets.onnxruntime.target import ONNXRUNTIME
from tests.helpers.run_graph import run
from tests.helpers.tiny_models import CONV, parsed, source

TYPES = {
    "float": np.float32, "double": np.float64, "bool": np.bool_, "int8": np.int8, "int16": np.int16,
    "int32": np.int32, "int64": np.int64, "uint8": np.uint8, "uint16": np.uint16, "uint32": np.uint32,
    "uint64": np.uint64,
}  # fmt: skip


def schema(op: str) -> onnx.defs.OpSchema:
    return onnx.defs.get_schema(op, ONNXRUNTIME.opset, "")


def kernels(op: str) -> list[dict[str, list[str]]]:
    """Type constraints of the CPU kernels that serve `op` at the target's opset."""
    version = schema(op).since_version
    return [
        kernel.type_constraints
        for kernel in get_all_opkernel_def()
        if (kernel.op_name, kernel.domain, kernel.provider) == (op, "", "CPUExecutionProvider")
        and kernel.version_range[0] <= version <= kernel.version_range[1]
    ]


def is_function(op: str) -> bool:
    return any(bool(getattr(schema(op), name)) for name in ("has_function", "has_context_dependent_function"))


def accepted_by_the_table(op: str) -> set[str]:
    found = set()
    for name, dtype in TYPES.items():
        node = gs.Node(op, inputs=[gs.Variable("x", dtype)], outputs=[gs.Variable("y")])
        if ONNXRUNTIME.why_not(node) is None:
            found.add(name)
    return found


def accepted_by_the_runtime(op: str) -> set[str]:
    parameter = schema(op).inputs[0].type_str
    found: set[str] = set()
    for constraints in kernels(op):
        if parameter not in constraints:
            return set(TYPES)
        found |= {t.removeprefix("tensor(").removesuffix(")") for t in constraints[parameter]}
    return found & set(TYPES)


@pytest.mark.parametrize("op", sorted(ONNXRUNTIME.ops))
def test_every_row_has_a_kernel_or_a_function_body(op: str) -> None:
    assert kernels(op) or is_function(op) or op == "Constant"  # which the runtime turns into an initializer


@pytest.mark.parametrize("op", sorted(op for op, checks in ONNXRUNTIME.ops.items() if checks))
def test_a_row_with_types_accepts_what_the_kernels_take(op: str) -> None:
    if not kernels(op):
        pytest.skip("a function: its types are those of its body")
    assert accepted_by_the_table(op) == accepted_by_the_runtime(op)


def test_a_refused_type_is_named() -> None:
    node = gs.Node("Conv", inputs=[gs.Variable("x", np.int32)], outputs=[gs.Variable("y")])
    assert ONNXRUNTIME.why_not(node) == "input 0 is int32, supported are float16, float32"
    half = gs.Node("Conv", inputs=[gs.Variable("x", np.float16)], outputs=[gs.Variable("y")])
    assert ONNXRUNTIME.why_not(half) is None


def test_what_is_emitted_loads_and_computes(tmp_path: Path) -> None:
    model = parsed(CONV)
    del model.opset_import[1]
    emitted = ONNXRUNTIME.emit(model, tmp_path, Settings())
    assert [p.name for p in tmp_path.iterdir()] == list(emitted.files)
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 12)).astype(np.float32)
    got = ONNXRUNTIME.load(tmp_path, emitted.options, 1).run(x)
    np.testing.assert_allclose(got, run(ir.from_model(parsed(CONV)), {"x": x})[0], atol=1e-5)


def test_a_damaged_engine_is_a_compile_error(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(CompileError, match=r"model\.onnx"):
        ONNXRUNTIME.load(tmp_path, {}, 1)


def test_engines_with_any_number_of_inputs_and_outputs_are_called_by_name(tmp_path: Path) -> None:
    text = """g (float[2] b, int64[N] a) => (int64[N] twice, float[2] y) { twice = Add(a, a)  y = Relu(b) }"""
    ONNXRUNTIME.emit(parsed(text), tmp_path, Settings())
    got = ONNXRUNTIME.load(tmp_path, {}, 1).run_named(  # type: ignore[attr-defined]
        {"a": np.arange(3), "b": np.array([-1, 2], np.float32)}
    )
    assert got["twice"].tolist() == [0, 2, 4] and got["y"].tolist() == [0, 2]
    ONNXRUNTIME.emit(parsed("g () => (float[] y) { y = Constant<value_float = 3.0>() }"), tmp_path, Settings())
    assert ONNXRUNTIME.load(tmp_path, {}, 1).run_named({})["y"] == 3  # type: ignore[attr-defined]


def test_half_precision_compiles_passes_the_gate_and_stores_half(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    bundles = [
        segc.compile(source(tmp_path), target="onnxruntime", precision=precision, out=tmp_path / precision)
        for precision in ("fp32", "fp16")
    ]
    parity = bundles[1].report["parity"]
    assert not parity["failures"] and min(case["agreement"] for case in parity["cases"]) >= 0.995
    stored = [
        {tensor.data_type for tensor in onnx.load(bundle.path / "model.onnx").graph.initializer if tensor.dims}
        for bundle in bundles
    ]
    assert onnx.TensorProto.FLOAT16 not in stored[0] and onnx.TensorProto.FLOAT16 in stored[1]
    shape = tuple(size or 1 for size in bundles[0].manifest.input.shape)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    single, half = (next(iter(segc.load(bundle.path).run(x).values())) for bundle in bundles)
    error = np.abs(single - half).max() / np.abs(single).max()
    assert 0 < error < 1e-2
