"""benchmarks/gpu as far as it goes without a GPU: it says so, and what is prepared for it can be built."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import operator
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.tiny_models import onnx_file, source

FOLDER = Path(__file__).parents[2] / "benchmarks" / "gpu"
TARGET = Path(__file__).parents[2] / "targets" / "tensorrt"


def script(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_without_a_gpu_it_says_so_and_exits_3(tmp_path: Path) -> None:
    if script("measure").why_no_gpu() is None:
        pytest.skip("this machine has a GPU")
    done = subprocess.run(
        [sys.executable, "-S", str(FOLDER / "measure.py"), str(tmp_path)], capture_output=True, text=True
    )  # -S: not even site-packages are needed to say it
    assert done.returncode == 3, done.stderr
    assert "NVIDIA driver" in json.loads(done.stdout)["error"]


def test_what_is_prepared_builds_and_is_the_model(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings")
    import onnxruntime
    import torch

    folder = tmp_path / "net"
    script("prepare").prepare(str(source(tmp_path)), folder, (24, 40), ["fp32"])
    x = np.load(folder / "input.npy")
    with torch.no_grad():
        want = torch.export.load(folder / "model.pt2").module()(torch.from_numpy(x)).numpy()
    measure = script("measure")
    trt = measure.tensorrt(None)
    log = measure.Log(trt)
    names = sorted(path.stem for path in folder.glob("*.onnx"))
    assert names == ["argmax-fp32", "plain", "planes-fp32", "segc-fp32"]
    for name in names:
        session = onnxruntime.InferenceSession(str(folder / f"{name}.onnx"), providers=["CPUExecutionProvider"])
        y = session.run(None, {session.get_inputs()[0].name: x})[0]
        np.testing.assert_allclose(y, want if y.ndim == 4 else want.argmax(1), atol=1e-4)
        assert len(measure.build(trt, log, folder / f"{name}.onnx")) > 1000
    ops = {name: (folder / f"{name}.onnx").read_bytes() for name in names}
    assert b"ArgMax" in ops["argmax-fp32"] and b"ArgMax" not in ops["planes-fp32"]


def used(path: Path) -> set[tuple[str, str]]:
    """(object of TensorRT's API, name that is read of it) of a file; enums with their members as 'trt.Enum'."""
    raw = {"self.engine", "self._engine", "self.context", "self._context", "self.runtime", "self._runtime"}
    plain = {"trt", "runtime", "builder", "network", "parser", "config"}
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            receiver = ast.unparse(node.value)
            if receiver in raw | plain or receiver.startswith("trt."):
                found.add((receiver.removeprefix("self.").removeprefix("_"), node.attr))
    return found


@pytest.mark.parametrize(
    "path",
    [FOLDER / "measure.py", TARGET / "runtime.py", TARGET / "engine_build" / "child.py"],
    ids=lambda path: path.name,
)
def test_what_no_gpu_could_try_is_at_least_in_the_api(path: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings")
    api = script("measure").tensorrt(None)
    kinds = {
        "trt": [api], "engine": [api.ICudaEngine], "context": [api.IExecutionContext], "runtime": [api.Runtime],
        "builder": [api.Builder], "network": [api.INetworkDefinition], "parser": [api.OnnxParser],
        "config": [api.IBuilderConfig, api.IRuntimeConfig],
    }  # fmt: skip
    names = used(path)
    assert len(names) >= 15
    for receiver, name in names:
        of = kinds[receiver] if receiver in kinds else [operator.attrgetter(receiver.removeprefix("trt."))(api)]
        assert any(hasattr(one, name) for one in of), f"{path.name}: {receiver}.{name} does not exist"


def test_engines_are_built_as_segc_builds_them(tmp_path: Path) -> None:
    """The same file gives the same bytes, so that a row's sha256 says of which engine it speaks."""
    pytest.importorskip("tensorrt_rtx_bindings")
    from segc.targets.tensorrt.engine_build import build
    from segc.targets.tensorrt.flavor import FLAVORS

    measure = script("measure")
    trt = measure.tensorrt(None)
    path = onnx_file(tmp_path)
    sidecar = build.build_file(path, None, tmp_path, FLAVORS["rtx"])
    plan = measure.build(trt, measure.Log(trt), path)
    assert hashlib.sha256(plan).hexdigest() == sidecar["engine_sha256"]


def test_parity_figures_of_logits_and_masks() -> None:
    torch = pytest.importorskip("torch")
    measure = script("measure")
    reference = torch.tensor([[[[4.0, 1.0]], [[2.0, 1.5]]]])
    assert measure.compared(reference, reference) == {"relative_error": 0.0, "agreement": 1.0, "largest_margin": 0.0}
    row = measure.compared(reference, torch.tensor([[[0, 0]]], dtype=torch.uint8))
    assert row == {"agreement": 0.5, "largest_margin": 0.125}
    assert measure.percentiles([3.0, 1.0, 2.0]) == {"p50_ms": 2.0, "p95_ms": 3.0}
