"""TensorRT: every row and every condition against the native library, and the build with all that can go wrong."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnx.helper
import onnx.parser
import onnxruntime
import pytest

from tests.helpers.calls import refused, segc, segc_process
from tests.helpers.op_models import X, model_with
from tests.helpers.tiny_bundles import photograph
from tests.helpers.tiny_models import CONV, DYNAMIC_CONV, onnx_file, parsed, source

pytest.importorskip("tensorrt_rtx_bindings")

import segc as package
from segc.errors import CompileError, FileError, LegalityError, MissingPackageError, UsageError
from segc.graph import ir
from segc.targets import NodesRefused, Settings, ShapeRange, get
from segc.targets.tensorrt import ops as rows
from segc.targets.tensorrt.engine_build import build, child
from segc.targets.tensorrt.engine_build.network import interface
from segc.targets.tensorrt.flavor import FLAVORS, Flavor, cannot_run, distribution_of, version_of
from segc.targets.tensorrt.runtime import diagnosis, load, log_of, runtime_of
from segc.targets.tensorrt.target import TENSORRT

ROOT = Path(__file__).parents[3]
RTX = FLAVORS["rtx"]
api = [importlib.import_module(name) for name in RTX.modules][-1]
NO_GPU = cannot_run(Settings())
without_gpu = pytest.mark.skipif(NO_GPU is None, reason="this machine has a GPU")
# Rows that op_models has no model for, or one that TensorRT wants spelled otherwise.
OWN = {
    "DequantizeLinear": "a = QuantizeLinear(x, half, signed)  y = DequantizeLinear(a, half, signed)",
    "GatherND": "a = GatherND(x, places)  y = Unsqueeze(a, axes)",
    "HardSwish": "y = HardSwish(x)",
    "QuantizeLinear": "a = QuantizeLinear(x, half, signed)  y = DequantizeLinear(a, half, signed)",
    "ScatterND": "a = GatherND(x, places)  b = Neg(a)  y = ScatterND(x, places, b)",
    "Size": "a = Size(x)  b = Cast<to = 1>(a)  y = Add(x, b)",
}


def answer(model: onnx.ModelProto, folder: Path, outputs: Any = None) -> dict[str, Any]:
    """What the child answers, in this process: building a hundred small networks in one saves their start."""
    file = folder / "model.onnx"
    onnx.save(model, file)
    job: dict[str, Any] = {
        "modules": list(RTX.modules), "onnx": str(file), "engine": str(folder / "engine"), "profile": None,
        "workspace": build.WORKSPACE, "tf32": False,
        "expected": {
            "inputs": interface(model.graph.input),
            "outputs": interface(model.graph.output) if outputs is None else outputs,
        },
    }  # fmt: skip
    return child.build(job)


def row_model(op: str) -> onnx.ModelProto:
    return model_with(op, OWN.get(op))


@pytest.mark.parametrize("op", sorted(rows.RTX))
def test_every_row_builds_with_the_shapes_and_types_of_onnx_runtime(op: str, tmp_path: Path) -> None:
    model = row_model(op)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    want = onnxruntime.InferenceSession(model.SerializeToString(), options).run(["y"], {"x": X})[0]
    expected = [{"name": "y", "dtype": "float", "shape": list(want.shape)}]
    found = answer(model, tmp_path, expected)
    assert found["ok"], found
    assert not [why for node in ir.from_model(model).nodes if (why := TENSORRT.why_not(node))]


REFUSED = {
    "resize tf_crop": (
        'y = Resize<mode = "linear", coordinate_transformation_mode = "half_pixel_symmetric">(x, , scales)',
        "coordinate_transformation_mode",
    ),
    "resize antialias": ('y = Resize<mode = "linear", antialias = 1>(x, , scales)', "antialias=1"),
    "resize ints": (
        'a = Cast<to = 6>(x)  b = Resize<mode = "nearest">(a, , scales)  y = Cast<to = 1>(b)',
        "int32 maps cannot be resized",
    ),
    "pool dilations": ("y = MaxPool<kernel_shape = [2, 2], dilations = [2, 2]>(x)", "dilations=[2, 2]"),
    "pool indices": ("y, a = MaxPool<kernel_shape = [2, 2]>(x)", "only the first output"),
    "deconv": (
        "y = ConvTranspose<strides = [2, 2], dilations = [2, 2]>(x, w)",
        "strided and dilated at once",
    ),
    "axes": (
        "a = Shape(x)  b = Slice(a, axis0, axes)  c = Sub(b, b)  y = ReduceSum(x, c)",
        "axes computed at run time",
    ),
    "large k": ("a = Reshape(x, line)  b = Tile(a, many)  y, c = TopK<axis = 1>(b, k4000)", "K=4000, at most 3840"),
    "uint16": ("a = Cast<to = 4>(x)  y = Cast<to = 1>(a)", "uint16 does not exist"),
    "uint8": ("a = Cast<to = 2>(x)  b = Transpose(a)  y = Cast<to = 1>(b)", "computes nothing in uint8"),
    "scatter": (
        'a = GatherElements<axis = 3>(x, spots)  y = ScatterElements<axis = 3, reduction = "add">(x, spots, a)',
        "reduction='add'",
    ),
    "zero point": (
        "a = QuantizeLinear(x, half, three)  y = DequantizeLinear(a, half, three)",
        "the zero point is not a constant 0",
    ),
    "nonzero": ("a = Round(x)  b = NonZero(a)  c = Cast<to = 1>(b)  y = Unsqueeze(c, axes)", "no NonZero in tensorrt"),
}


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_what_a_condition_refuses_the_library_refuses_too(case: str, tmp_path: Path) -> None:
    body, reason = REFUSED[case]
    model = model_with("", body)
    graph = ir.from_model(onnx.ModelProto.FromString(model.SerializeToString()))
    ir.infer_shapes(graph)
    reasons = [why for node in graph.nodes if (why := TENSORRT.why_not(node))]
    assert any(reason in why for why in reasons), reasons
    assert not answer(model, tmp_path)["ok"]


def test_unsigned_quantization_is_refused_although_the_library_takes_it_as_signed() -> None:
    graph = ir.from_model(model_with("QuantizeLinear"))
    assert "zero point of type uint8" in str(TENSORRT.why_not(graph.nodes[0]))


def compiled(path: Path, out: Path, **options: Any) -> package.Bundle:
    return package.compile(path, target="tensorrt", out=out, **options)


@without_gpu
def test_a_bundle_is_built_and_never_called_ok_where_no_gpu_is(tmp_path: Path) -> None:
    bundle = compiled(onnx_file(tmp_path), tmp_path / "b")
    assert bundle.report["status"] == f"built, not run: {NO_GPU}"
    assert bundle.report["parity"]["ran"] == "the legalized graph in ONNX Runtime"
    sidecar = json.loads((bundle.path / "engine.json").read_text())
    assert sidecar["inputs"] == [{"name": "x", "dtype": "float", "shape": [1, 3, 8, 12]}]
    assert sidecar["outputs"] == [{"name": "y", "dtype": "float", "shape": [1, 2, 8, 12]}]
    assert sidecar["version"] == bundle.manifest.target.options["version"]
    with pytest.raises(CompileError, match="runs on an NVIDIA GPU only"):
        package.load(bundle.path)


def test_two_builds_give_equal_bytes(tmp_path: Path) -> None:
    path = onnx_file(tmp_path)
    first, second = (compiled(path, tmp_path / name).manifest for name in ("a", "b"))
    assert first.files == second.files
    assert "model.engine" in first.files


def test_a_dynamic_engine_has_a_range_and_names_it(tmp_path: Path) -> None:
    path = onnx_file(tmp_path, DYNAMIC_CONV)
    sizes = ShapeRange((8, 16), (16, 32), (24, 48))
    bundle = compiled(path, tmp_path / "b", dynamic=True, trace_shape=(16, 32), shape_range=sizes)
    taken = bundle.manifest.input
    assert taken.shape == (1, 3, None, None)
    assert (taken.limits(2), taken.limits(3)) == ((8, 24), (16, 48))
    sidecar = json.loads((bundle.path / "engine.json").read_text())
    assert sidecar["profile"] == {"min": [1, 3, 8, 16], "opt": [1, 3, 16, 32], "max": [1, 3, 24, 48]}
    assert [corner["output"] for corner in sidecar["corners"]] == [[1, 2, 8, 16], [1, 2, 16, 32], [1, 2, 24, 48]]
    for case in bundle.report["parity"]["cases"]:
        assert 8 <= case["shape"][2] <= 24 and 16 <= case["shape"][3] <= 48


def test_a_dynamic_engine_chooses_more_points_than_one_topk_can(tmp_path: Path) -> None:
    text = """g (float[1,1,H,W] x) => (float[1,1,1,K] y)
        <int64[2] line = {1, -1}, int64[1] most = {5000}, int64[1] one = {1}, int64[2] wide = {1, 2}> {
        a = Reshape (x, line)  s = Shape (a)  n = Gather (s, one)  k = Min (n, most)
        v, i = TopK (a, k)  y = Unsqueeze (v, wide) }"""
    sizes = ShapeRange((8, 8), (64, 64), (128, 128))
    bundle = compiled(
        onnx_file(tmp_path, text), tmp_path / "b", dynamic=True, trace_shape=(64, 64), shape_range=sizes, verify=False
    )
    sidecar = json.loads((bundle.path / "engine.json").read_text())
    assert [corner["output"] for corner in sidecar["corners"]] == [[1, 1, 1, 64], [1, 1, 1, 4096], [1, 1, 1, 5000]]
    assert bundle.report["ops"]["after"]["TopK"] == 2


@pytest.mark.parametrize(("classes", "dtype", "native"), [(5, "uint8", "uint8"), (257, "uint16", "int32")])
def test_masks_leave_the_engine_in_the_smallest_type_it_has(
    tmp_path: Path, classes: int, dtype: str, native: str
) -> None:
    weights = ", ".join(str(v % 7 - 3) for v in range(3 * classes))
    text = f"""g (float[1,3,8,12] x) => (float[1,{classes},16,24] y) <float[{classes},3,1,1] w = {{{weights}}},
        float[4] s = {{1, 1, 2, 2}}> {{ a = Conv(x, w)  y = Resize<mode = "linear">(a, , s) }}"""
    for argmax, ops in (("plain", {"ArgMax"}), ("planes", {"Greater", "Where", "Max"})):
        options = {"argmax": argmax}
        bundle = compiled(onnx_file(tmp_path, text), tmp_path / argmax, output="mask", options=options)
        sidecar = json.loads((bundle.path / "engine.json").read_text())
        assert sidecar["outputs"] == [{"name": "mask", "dtype": native, "shape": [1, 16, 24]}]
        assert bundle.manifest.output.dtype == dtype
        assert ops <= set(bundle.report["ops"]["after"])
        assert all(case["agreement"] == 1.0 for case in bundle.report["parity"]["cases"])


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("defer", ["no", "yes"])
def test_images_go_in_as_they_are(precision: str, defer: str, tmp_path: Path) -> None:
    path = source(tmp_path)
    options = {"defer": defer}
    bundle = compiled(path, tmp_path / "b", input="uint8", precision=precision, options=options)
    assert (bundle.manifest.input.dtype, bundle.manifest.input.shape) == ("uint8", (1, 3, 24, 40))
    assert all(case["agreement"] >= 0.995 for case in bundle.report["parity"]["cases"])
    if defer == "yes":
        finished = segc("build", bundle.path)
        assert finished.code == 0, finished.err
    sidecar = json.loads((bundle.path / "engine.json").read_text())
    assert sidecar["inputs"] == [{"name": "input", "dtype": "uint8", "shape": [1, 24, 40, 3]}]


def test_half_precision_lies_in_the_types_and_halves_the_engine(tmp_path: Path) -> None:
    model = parsed("""g (float[1,3,8,12] x) => (float[1,256,8,12] y) <float[1] v = {0}, float[1] w = {0}>
        { a = Conv(x, v)  b = Relu(a)  y = Conv<pads = [1, 1, 1, 1]>(b, w) }""")
    rng = np.random.default_rng(0)
    for tensor, shape in zip(model.graph.initializer, ((256, 3, 1, 1), (256, 256, 3, 3)), strict=True):
        values = rng.standard_normal(shape).astype(np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    del model.opset_import[1]
    onnx.save(model, tmp_path / "net.onnx")
    single = compiled(tmp_path / "net.onnx", tmp_path / "single")
    half = compiled(tmp_path / "net.onnx", tmp_path / "half", precision="fp16", options={"half": "all"})
    sizes = [(b.path / "model.engine").stat().st_size for b in (single, half)]
    assert sizes[1] < 0.7 * sizes[0]
    assert half.report["ops"]["after"]["Cast"] == 2
    assert half.manifest.precision == "fp16"


def test_int8_lies_in_q_and_dq_and_the_builder_takes_it(tmp_path: Path) -> None:
    """int8 with zero point 0 before convolutions, weights with a scale a channel, biases in float32."""
    (tmp_path / "images").mkdir()
    for seed in range(5):
        cv2.imwrite(str(tmp_path / "images" / f"{seed}.png"), photograph(24, 40, seed))
    bundle = compiled(
        source(tmp_path), tmp_path / "b", precision="int8", calibration=tmp_path / "images", keep_onnx=True
    )  # fmt: skip
    assert "model.engine" in bundle.manifest.files and bundle.manifest.precision == "int8"
    assert bundle.report["status"] != "ok" and bundle.report["parity"]["ran"] != "tensorrt"
    assert [case["name"] for case in bundle.report["parity"]["cases"]] == ["1.png 24x40"]
    graph = ir.from_model(onnx.load(bundle.path / "final.onnx"))
    convolutions = [node for node in graph.nodes if node.op == "Conv"]
    for node in convolutions:
        x, w = (t.inputs[0] for t in node.inputs[:2])
        assert x.op == w.op == "DequantizeLinear" and x.inputs[2].values.dtype == np.int8 and x.inputs[2].values == 0
        assert w.inputs[0].values.dtype == np.int8 and w.inputs[1].shape == [node.outputs[0].shape[1]]
        assert all(t.dtype == np.float32 for t in node.inputs[2:])
    assert convolutions and {row["precision"] for row in bundle.report["quantization"]["layers"]} == {"int8"}


def test_what_only_the_parser_refuses_names_our_node_and_its_words(tmp_path: Path) -> None:
    path = onnx_file(
        tmp_path,
        """g (float[1,3,8,8] x) => (float[1,3,8,8] y)
        { a = Cast<to = 6>(x)  b = MatMul(a, a)  y = Cast<to = 1>(b) }""",
    )
    with pytest.raises(LegalityError) as error:
        compiled(path, tmp_path / "b")
    text = str(error.value)
    assert "tensorrt refuses" in text and "MatMul 'MatMul/b'" in text and "parser, UNSUPPORTED_NODE" in text
    assert not (tmp_path / "b").exists()


REFUSED_LATER = """
import torch
from torch import nn


class Net(nn.Module):
    def forward(self, x):
        whole = x.to(torch.int32)
        return torch.matmul(whole, whole).to(torch.float32)


model = Net()
meta = dict(shape=(16, 16))
"""


def test_what_the_parser_refuses_names_the_line_of_torch(tmp_path: Path) -> None:
    path = source(tmp_path, REFUSED_LATER)
    refused(segc("compile", path, "--target", "tensorrt", "-o", tmp_path / "b"), 4, "net.py:9 forward")
    assert not (tmp_path / "b").exists()


def test_a_deferred_build_that_is_refused_names_the_line_of_torch_too(tmp_path: Path) -> None:
    path, out = source(tmp_path, REFUSED_LATER), tmp_path / "b"
    done = segc("compile", path, "--target", "tensorrt", "--defer", "-o", out)
    assert done.code == 0, done.err
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    again = segc("build", out)
    refused(again, 4, "net.py:9 forward")
    assert "parser, UNSUPPORTED_NODE" in again.err and "MatMul" in again.err
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


def test_what_only_the_builder_refuses_names_our_node_too(tmp_path: Path) -> None:
    model = model_with("", REFUSED["large k"][0])
    model.graph.node[2].name = "decode/top"
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, (1, 4000)))
    with pytest.raises(NodesRefused) as error:
        build.build(model, tmp_path, Settings(), RTX)
    assert [node for node, _ in error.value.refusals] == ["decode/top"]
    assert "K exceeds the maximum value allowed" in str(error.value) and "cudaError" not in str(error.value)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", ("crashed while building", "SIGSEGV")),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", ("out of memory", "SIGKILL")),
        ("import os; print('std::bad_alloc', flush=True); os._exit(134)", ("out of memory", "exit code 134")),
        ("import time; time.sleep(60)", ("did not finish within 2 s",)),
    ],
)
def test_the_death_of_the_native_library_is_an_error_like_others(
    code: str, said: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dying_library.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    with pytest.raises(CompileError) as error:
        build.run_child({"modules": ["dying_library"]}, limit=2.0 if "sleep" in code else 30.0)
    assert all(text in str(error.value) for text in said), error.value


SHORT_OF_MEMORY = """
import resource, sys
from pathlib import Path
from tests.helpers.tiny_models import CONV, parsed
from segc.targets import Settings
from segc.targets.tensorrt.engine_build import build as builder
from segc.targets.tensorrt.flavor import FLAVORS
resource.setrlimit(resource.RLIMIT_DATA, (120 << 20, 120 << 20))
builder.build(parsed(CONV), Path(sys.argv[1]), Settings(), FLAVORS["rtx"], limit=60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit the data of a process")
def test_a_build_that_really_runs_out_of_memory_says_so(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    path = os.pathsep.join([*map(str, (ROOT,)), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", SHORT_OF_MEMORY, str(out)], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    assert "CompileError: TensorRT ran out of memory while building" in done.stderr, done.stderr
    assert not any(out.iterdir())


# What TensorRT does where the driver is older than it wants: it says so and gives no builder.
OLD_DRIVER = """
__version__ = "99"
class ILogger:
    class Severity:
        WARNING = 2
    def __init__(self): pass
class Error(int):
    name = "ERROR"
def Builder(log):
    log.log(Error(1), SAID)
    raise TypeError("pybind11::init(): factory function returned nullptr")
"""


@pytest.mark.parametrize(
    ("words", "said"),
    [("CUDA initialization failure with error: 35", "the NVIDIA driver is too old"), ("no luck", "does not start")],
)
def test_a_library_that_gives_no_builder_says_why(
    words: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "old_driver_library.py").write_text(f"SAID = {words!r}\n{OLD_DRIVER}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    old = Flavor("enterprise", ("old_driver_library",), (), "", needs_gpu=False)
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(CompileError) as error:
        build.build(parsed(CONV), out, Settings(), old)
    assert said in str(error.value) and words in str(error.value)
    assert not any(out.iterdir())


def test_an_engine_that_cannot_be_written_is_no_crash(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="the engine cannot be written"):
        build.build(parsed(CONV), tmp_path / "nowhere", Settings(), RTX)


def test_every_distribution_that_brings_a_flavor_will_do() -> None:
    """There is one for each version of CUDA; numpy and pytest stand for two of them."""
    brought = Flavor("rtx", ("numpy",), ("segc-is-never-called-this", "numpy", "pytest"), "", needs_gpu=False)
    assert distribution_of(brought) == "numpy" and version_of(brought) == np.__version__
    missing = Flavor("rtx", ("no_such_module",), ("segc-is-never-called-this",), "install it", needs_gpu=False)
    assert distribution_of(missing) is None
    with pytest.raises(MissingPackageError, match="install it"):
        version_of(missing)


def test_a_library_that_cannot_be_imported_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = build.run_child({"modules": ["no_such_library"]})
    assert "ModuleNotFoundError" in found["import_error"]
    broken = Flavor("rtx", ("no_such_library",), (), "pip install it", needs_gpu=False)
    with pytest.raises(MissingPackageError, match="cannot be imported"):
        build.build(parsed(CONV), tmp_path, Settings(), broken)
    assert not any(tmp_path.iterdir())


def test_a_network_with_other_edges_than_the_graph_is_refused(tmp_path: Path) -> None:
    wrong = [{"name": "z", "dtype": "half", "shape": [1, 2, 8, 12]}]
    found = answer(parsed(CONV), tmp_path, wrong)
    assert not found["ok"] and "instead of" in found["mismatch"][0]
    assert not (tmp_path / "engine").exists()


def test_bytes_that_are_no_model_are_refused_although_the_parser_takes_them(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"")
    job: dict[str, Any] = {
        "modules": list(RTX.modules), "onnx": str(tmp_path / "model.onnx"), "engine": str(tmp_path / "engine"),
        "profile": None, "workspace": 1, "tf32": False, "expected": {"inputs": [], "outputs": []},
    }  # fmt: skip
    assert not child.build(job)["ok"]


@without_gpu
def test_enterprise_builds_are_refused_without_a_gpu_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="on their GPU only"):
        build.build(parsed(CONV), tmp_path, Settings(), FLAVORS["enterprise"])
    done = segc("compile", onnx_file(tmp_path), "--target", "tensorrt", "--flavor", "enterprise", "-o", tmp_path / "b")
    refused(done, MissingPackageError.exit_code, "needs the package 'tensorrt'")
    assert not (tmp_path / "b").exists()


def test_a_dynamic_graph_without_a_range_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="needs a range of sizes"):
        build.build(parsed(DYNAMIC_CONV), tmp_path, Settings(), RTX)


@without_gpu
@pytest.mark.parametrize(
    ("field", "value", "said"),
    [("version", "0.9", "another version"), ("platform", "Plan9 mips", "another platform"), (None, None, "NVIDIA GPU")],
)
def test_engines_that_do_not_fit_this_machine_say_why(
    field: str | None, value: str | None, said: str, tmp_path: Path
) -> None:
    build.build(parsed(CONV), tmp_path, Settings(), RTX)
    sidecar = json.loads((tmp_path / "engine.json").read_text())
    (tmp_path / "engine.json").write_text(json.dumps({**sidecar, **({field: value} if field else {})}))
    with pytest.raises(CompileError, match=said):
        load(tmp_path, {}, 1)


class Header:
    """A runtime that finds these faults in a header; only a machine with a GPU finds others than a damaged file."""

    engine_header_size = 64

    def __init__(self, bits: int) -> None:
        self.bits = bits

    def get_engine_validity(self, _plan: bytes) -> tuple[Any, int]:
        return api.EngineValidity.INVALID, self.bits


def test_every_fault_of_an_engine_is_told_in_words() -> None:
    faults = api.EngineInvalidityDiagnostics.__members__
    told = {name: diagnosis(api, Header(int(bit)), b"") for name, bit in faults.items()}
    assert all(len(lines) == 1 for lines in told.values()), told
    assert "driver is too old" in told["OLD_CUDA_DRIVER"][0] and "another version" in told["VERSION_MISMATCH"][0]
    both = diagnosis(api, Header(int(faults["OLD_CUDA_DRIVER"]) | int(faults["UNSUPPORTED_CC"])), b"")
    assert len(both) == 2
    assert diagnosis(api, object(), b"") == []


def test_a_damaged_engine_is_told_from_a_sound_one(tmp_path: Path) -> None:
    build.build(parsed(CONV), tmp_path, Settings(), RTX)
    plan = (tmp_path / "model.engine").read_bytes()
    runtime = runtime_of(api, log_of(api))
    assert diagnosis(api, runtime, plan) == []
    assert diagnosis(api, runtime, b"no engine" + plan[9:]) == ["the file is no engine, or a damaged one"]


def test_a_runtime_that_does_not_start_says_why() -> None:
    class Dead:
        @staticmethod
        def Runtime(_logger: Any) -> Any:  # noqa: N802 - TensorRT's name
            raise TypeError("factory function returned nullptr")

    with pytest.raises(CompileError, match="does not start on this machine") as error:
        runtime_of(Dead, log_of(api))
    assert "update the NVIDIA driver" in str(error.value)


def test_float32_is_float32_unless_tf32_is_asked_for(tmp_path: Path) -> None:
    path = onnx_file(tmp_path)
    sidecars = {}
    for tf32 in ("off", "on"):
        out = tmp_path / tf32
        bundle = compiled(path, out, options={"tf32": tf32, "defer": "yes"})
        commands = json.loads((out / "build.json").read_text())["trtexec"]
        assert all(("--noTF32" in command) == (tf32 == "off") for command in commands.values())
        done = segc("build", bundle.path)
        assert done.code == 0, done.err
        sidecars[tf32] = json.loads((out / "engine.json").read_text())
    assert (sidecars["off"]["tf32"], sidecars["on"]["tf32"]) == (False, True)
    assert sidecars["off"]["engine_sha256"] != sidecars["on"]["engine_sha256"]
    whole = json.loads((compiled(path, tmp_path / "b").path / "engine.json").read_text())
    assert whole["engine_sha256"] == sidecars["off"]["engine_sha256"]


def test_a_deferred_build_is_finished_where_tensorrt_is(tmp_path: Path) -> None:
    out = tmp_path / "b"
    done = segc("compile", onnx_file(tmp_path), "--target", "tensorrt", "--defer", "-o", out, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["report"]["status"].startswith("not built, not run: segc build finishes it")
    assert {"model.onnx", "build.json", "README.md", "reference.npz"} <= {p.name for p in out.iterdir()}
    assert not (out / "model.engine").exists()
    with pytest.raises(CompileError, match="not built yet"):
        package.load(out)
    readme = (out / "README.md").read_text()
    assert all(command in readme for command in json.loads((out / "build.json").read_text())["trtexec"].values())
    assert "trtexec --onnx=model.onnx --saveEngine=model.engine" in readme
    finished = segc_process("build", out)
    assert finished.code == 0, finished.err
    assert (out / "model.engine").stat().st_size and (out / "engine.json").is_file()
    report = json.loads((out / "report.json").read_text())
    assert report["status"] == (f"built, not run: {NO_GPU}" if NO_GPU else "ok")
    assert [case["agreement"] for case in report["parity"]["cases"]] == [1.0, 1.0]
    again = segc("build", out, "--json")  # what it was built from is still there
    assert again.code == 0, again.err


def test_a_dynamic_deferred_build_keeps_its_profile_in_the_command(tmp_path: Path) -> None:
    out = tmp_path / "b"
    done = segc(
        "compile", onnx_file(tmp_path, DYNAMIC_CONV), "--target", "tensorrt", "--defer", "--dynamic", "--trace-shape",
        "16x16", "--shape-range", "8x8:16x16:32x24", "-o", out,
    )  # fmt: skip
    assert done.code == 0, done.err
    commands = json.loads((out / "build.json").read_text())["trtexec"]
    shapes = "--minShapes=x:1x3x8x8 --optShapes=x:1x3x16x16 --maxShapes=x:1x3x32x24"
    assert all(shapes in command for command in commands.values())
    finished = segc("build", out)
    assert finished.code == 0, finished.err
    assert json.loads((out / "engine.json").read_text())["profile"]["max"] == [1, 3, 32, 24]


def test_a_finished_engine_that_misses_the_limits_leaves_the_bundle_as_it_was(tmp_path: Path) -> None:
    out = tmp_path / "b"
    assert segc("compile", onnx_file(tmp_path), "--target", "tensorrt", "--defer", "-o", out).code == 0
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    refused(segc("build", out, "--min-agreement", "1.1"), 5, "the bundle stays as it was")
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


def test_only_deferred_bundles_can_be_finished(tmp_path: Path) -> None:
    assert segc("compile", onnx_file(tmp_path), "-o", tmp_path / "b").code == 0
    refused(segc("build", tmp_path / "b"), UsageError.exit_code, "nothing left to build")


def test_weights_of_more_than_one_file_are_built_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = np.random.default_rng(0).standard_normal((64, 3, 3, 3)).astype(np.float32)
    model = parsed("g (float[1,3,8,12] x, float[64,3,3,3] w) => (float[1,64,6,10] y) { y = Conv(x, w) }")
    del model.graph.input[1]
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    whole = build.build(model, tmp_path, Settings(), RTX)
    monkeypatch.setattr(build, "fits_one_file", lambda _: False)
    split = build.build(model, tmp_path, Settings(), RTX)
    assert split["onnx_sha256"] != whole["onnx_sha256"] and split["engine_sha256"] == whole["engine_sha256"]


def test_the_flavors_are_explained() -> None:
    said = TENSORRT.explain()
    assert "flavor rtx: 1." in said and "flavor enterprise: not installed" in said


def test_the_settings_choose_rows_and_packages() -> None:
    plain = get("tensorrt")
    enterprise = plain.configure(plain, Settings(options={"flavor": "enterprise"}))
    assert "NonZero" in enterprise.ops and "NonZero" not in plain.ops
    assert enterprise.package is not None and enterprise.package.module == "tensorrt"
    assert plain.configure(plain, Settings(options={"defer": "yes"})).package is None
