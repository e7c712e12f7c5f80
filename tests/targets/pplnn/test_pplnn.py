"""The target as a whole: legal files, what lies in a bundle, and PPLNN itself where a module of its name is."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime
import pytest

import segc as package
from segc import targets
from segc.compilation.settings import settings_of
from segc.errors import CompileError, LegalityError, UsageError
from segc.graph import ir
from segc.legality import report
from segc.targets import Settings
from segc.targets.pplnn import runtime
from segc.targets.pplnn.target import PPLNN
from segc.targets.protocol import NamedSession
from tests.helpers.calls import refused, segc
from tests.helpers.tiny_models import CONV, DYNAMIC_CONV, changed, onnx_file, parsed, source

FAKE = Path(__file__).parent / "fake_pplnn"
CORNERS = """g (float[1,3,8,12] x) => (float[1,2,16,24] y)
    <float[2,3,1,1] w = {1, -2, 3, -4, 5, -6}, float[4] s = {1, 1, 2, 2}>
    { t = Conv (x, w)  y = Resize <mode = "linear", coordinate_transformation_mode = "align_corners"> (t, , s) }"""
POOLED = changed(
    "y = self.head(torch.relu(self.conv(x)))",
    "y = torch.relu(self.conv(x))\n        y = y + F.interpolate(F.adaptive_avg_pool2d(y, 3), size=y.shape[2:],"
    " mode='bilinear', align_corners=True)\n        y = self.head(y)",
)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A module pyppl.nn on the path."""
    monkeypatch.syspath_prepend(str(FAKE))
    return monkeypatch


def emitted(path: Path) -> onnx.ModelProto:
    model = onnx.load(path / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.mark.parametrize("device", ["x86", "cuda"])
def test_a_file_in_the_measured_region(tmp_path: Path, device: str) -> None:
    bundle = package.compile(
        onnx_file(tmp_path, CORNERS), target="pplnn", options={"device": device}, out=tmp_path / "b"
    )
    model = emitted(bundle.path)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 11)] and model.ir_version == 6
    ops = [node.op_type for node in model.graph.node]
    assert ops == (["Conv", "MatMul", "MatMul"] if device == "x86" else ["Conv", "Resize"])
    assert bundle.report["status"].startswith("emitted, not run: the module pyppl.nn is not installed")
    assert bundle.report["parity"]["ran"] == "the legalized graph in ONNX Runtime"
    engine = {name for name in bundle.manifest.files if not name.startswith("cpp/")}
    assert engine == {"model.onnx", "pplnn.json", "README.md", "evidence.json", "report.json"}


def test_unknown_sizes_keep_their_names(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    bundle = package.compile(source(tmp_path, POOLED), target="pplnn", dynamic=True, out=tmp_path / "b")
    model = emitted(bundle.path)
    assert [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == ["N", 3, "H", "W"]
    assert len({tuple(case["shape"]) for case in bundle.report["parity"]["cases"]}) >= 3


def test_a_mask_is_int64_in_the_file_and_small_from_the_engine(tmp_path: Path, fake: pytest.MonkeyPatch) -> None:
    bundle = package.compile(onnx_file(tmp_path), target="pplnn", output="mask", out=tmp_path / "b")
    assert emitted(bundle.path).graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.INT64
    assert bundle.report["status"] == "ok"
    mask = package.load(bundle.path).run(np.ones((1, 3, 8, 12), np.float32))["mask"]
    assert mask.dtype == np.uint8 and mask.shape == (1, 8, 12)


def test_what_no_pass_can_spell_is_refused_with_its_fact(tmp_path: Path) -> None:
    text = CONV.replace("y = Conv(x, w)", "t = Conv(x, w)  y = Round(t)")
    done = segc("compile", onnx_file(tmp_path, text), "--target", "pplnn", "-o", tmp_path / "b")
    refused(done, LegalityError.exit_code, "no Round in pplnn", "targets/pplnn/capabilities.json")
    assert not (tmp_path / "b").exists()


def test_a_reason_names_the_fact(tmp_path: Path) -> None:
    graph = ir.from_model(parsed(CONV.replace("Conv(x, w)", "Conv<pads = [0, 0, 1, 1]>(x, w)"), 11))
    ir.infer_shapes(graph)
    reasons = [refusal.reason for refusal in report.refusals(graph, PPLNN)]
    assert any("no attribute kernel_shape (notes x86 Conv: kernel_shape attribute required)" in r for r in reasons)


def test_a_kernel_that_would_be_skipped_is_not_asked_for(tmp_path: Path) -> None:
    """Reshape to a scalar has a shape without elements; PPLNN would leave its output as it finds it."""
    graph = ir.from_model(parsed("g (float[1,1] x) => (float y) <int64[0] s = {}> { y = Reshape(x, s) }", 11))
    (found,) = report.refusals(graph, PPLNN)
    assert found.reason.startswith("input 1 has no elements (notes general: A kernel whose required input is empty")


def test_half_precision_is_a_matter_of_the_cuda_engine(tmp_path: Path) -> None:
    path = onnx_file(tmp_path)
    done = segc("compile", path, "--target", "pplnn", "--precision", "fp16", "-o", tmp_path / "b")
    refused(done, UsageError.exit_code, "pplnn on x86 does not compute in fp16", "--device cuda")
    package.compile(path, target="pplnn", precision="fp16", options={"device": "cuda"}, out=tmp_path / "b")
    assert json.loads((tmp_path / "b" / "pplnn.json").read_text())["cuda"]["kernel_type"] == "float16"
    assert "--kernel-type float16" in (tmp_path / "b" / "README.md").read_text()


def test_equal_models_give_equal_files(tmp_path: Path) -> None:
    contents = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        made = PPLNN.emit(parsed(CONV), tmp_path / name, Settings())
        contents.append([(tmp_path / name / file).read_bytes() for file in made.files])
    assert contents[0] == contents[1]


def test_a_graph_that_cannot_be_lowered_is_not_written(tmp_path: Path) -> None:
    model = parsed(CONV.replace("Conv(x, w)", "Gelu(x)").replace("[1,2,8,12] y", "[1,3,8,12] y"))
    with pytest.raises(CompileError, match="cannot be expressed in opset 11"):
        PPLNN.emit(model, tmp_path, Settings())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("device", ["x86", "cuda"])
def test_the_python_of_the_bundle_runs(tmp_path: Path, fake: pytest.MonkeyPatch, device: str) -> None:
    bundle = package.compile(onnx_file(tmp_path), target="pplnn", options={"device": device}, out=tmp_path / "b")
    text = (bundle.path / "README.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    for kept in (False, True):  # the first run of a CUDA engine writes its algorithms, later ones read them
        if kept:
            (bundle.path / "algorithms.json").write_text("{}")
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=bundle.path, capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": str(FAKE)},
        )  # fmt: skip
        assert done.stdout.strip() == "y (1, 2, 8, 12) float32", done.stderr
    assert "pip install" not in text and not re.search(r"\{\w+\}|\{\{|\}\}", text)
    assert ("ENGINE_CONF_SET_KERNEL_TYPE" in text) == (device == "cuda")


def test_the_doctor_says_where_it_comes_from() -> None:
    findings = json.loads(segc("doctor", "--json").out)["findings"]
    (found,) = [f for f in findings if f["what"] == "target pplnn"]
    assert found["works"] and "another project" in found["detail"] and "docs/pplnn.md" in found["detail"]
    assert "pip" not in found["detail"] + found["so"]


def test_without_the_module_a_bundle_is_not_loaded(tmp_path: Path) -> None:
    bundle = package.compile(onnx_file(tmp_path), target="pplnn", out=tmp_path / "b")
    with pytest.raises(CompileError, match="PPLNN is not installed"):
        package.load(bundle.path)
    x = np.ones((1, 3, 8, 12), np.float32)
    y = onnxruntime.InferenceSession(bundle.path / "model.onnx").run(None, {"x": x})[0]
    assert y.shape == (1, 2, 8, 12)


def test_another_project_of_that_name_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyppl").mkdir()
    (tmp_path / "pyppl" / "__init__.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert not runtime.importable()
    assert runtime.cannot_run(Settings()) == runtime.ABSENT


def test_the_engine_of_a_bundle_runs_in_a_process_of_its_own(tmp_path: Path, fake: pytest.MonkeyPatch) -> None:
    bundle = package.compile(onnx_file(tmp_path, DYNAMIC_CONV), target="pplnn", dynamic=True, out=tmp_path / "b")
    assert bundle.report["status"] == "ok" and bundle.report["parity"]["ran"] == "pplnn"
    engine = package.load(bundle.path)
    for shape in ((1, 3, 8, 12), (2, 3, 17, 5)):
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        want = np.einsum("oc,nchw->nohw", np.float32([[1, -2, 3], [-4, 5, -6]]), x)
        np.testing.assert_allclose(engine.run(x)["logits"], want, atol=1e-5)
    assert "pyppl" not in sys.modules


def test_a_device_that_the_build_lacks_cannot_run(fake: pytest.MonkeyPatch) -> None:
    fake.setenv("FAKE_PPLNN_DEVICES", "x86")
    settings = settings_of(targets.get("pplnn"), "fp32", {"device": "cuda"})
    assert "does not run on cuda" in str(runtime.cannot_run(settings)) and runtime.cannot_run(Settings()) is None


def test_a_module_that_does_not_load_in_time_cannot_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyppl" / "nn").mkdir(parents=True)
    (tmp_path / "pyppl" / "__init__.py").write_text("import time\ntime.sleep(60)\n")
    (tmp_path / "pyppl" / "nn" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(runtime, "PROBE_SECONDS", 1)
    assert runtime.cannot_run(Settings()) == "pyppl.nn does not load within 1 seconds"


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("LoadModelFromFile=refuse", "LoadModelFromFile: unsupported"),
        ("Preprocess=refuse", "Preprocess: unsupported"),
        ("Create=refuse", "EngineFactory.Create returned nothing"),
        ("CreateRuntime=refuse", "CreateRuntime returned nothing"),
        ("Configure=refuse", "Configure: unsupported"),
        ("Run=refuse", "Run: unsupported"),
        ("Run=crash", "its process ended with SIGSEGV"),
        ("Preprocess=crash", "its process ended with SIGSEGV"),
        ("Run=exit", "its process ended with exit code 3"),
    ],
)
def test_what_fails_is_an_error_of_ours(tmp_path: Path, fake: pytest.MonkeyPatch, step: str, said: str) -> None:
    made = PPLNN.emit(parsed(CONV), tmp_path, Settings())
    fake.setenv("FAKE_PPLNN", step)
    with pytest.raises(CompileError) as caught:
        PPLNN.load(tmp_path, made.options, 1).run(np.ones((1, 3, 8, 12), np.float32))
    assert said in str(caught.value)


def test_what_hangs_is_ended(tmp_path: Path, fake: pytest.MonkeyPatch) -> None:
    PPLNN.emit(parsed(CONV), tmp_path, Settings())
    fake.setenv("FAKE_PPLNN", "Preprocess=hang")
    with pytest.raises(CompileError, match="did not answer within 4 s"):
        PPLNN.load(tmp_path, {"time_limit": 4}, 1)


def test_several_inputs_and_outputs_go_by_name(tmp_path: Path, fake: pytest.MonkeyPatch) -> None:
    text = "g (float[1,2] a, int64[2] b) => (float[1,2] y, int64[2] z) { y = Relu(a)  z = Add(b, b) }"
    made = PPLNN.emit(parsed(text), tmp_path, Settings())
    session = cast(NamedSession, PPLNN.load(tmp_path, made.options, 2))
    got = session.run_named({"b": np.array([1, 2]), "a": np.array([[-1, 3]], np.float32)})
    assert got["y"].tolist() == [[0, 3]] and got["z"].tolist() == [2, 4]


def test_only_types_that_it_computes_with_cross_a_boundary() -> None:
    for dtype, crosses in ((np.float32, True), (np.int64, True), (np.bool_, False), (np.uint8, False), (None, False)):
        assert (PPLNN.boundary(gs.Variable("t", dtype and np.dtype(dtype), [1])) is None) == crosses


def test_the_gate_uses_the_engine(tmp_path: Path, fake: pytest.MonkeyPatch) -> None:
    """A crash in the gate leaves no bundle."""
    fake.setenv("FAKE_PPLNN", "Run=crash")
    done = segc("compile", onnx_file(tmp_path), "--target", "pplnn", "-o", tmp_path / "b")
    assert done.code == CompileError.exit_code and "SIGSEGV" in done.err
    assert not (tmp_path / "b").exists()
