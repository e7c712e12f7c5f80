"""Golden kits: what their checkers say without segc, and what becomes of their result files."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import segc
from segc.errors import BundleError, Code, FileError, ParityError, SegcError, SourceError, UsageError
from segc.targets.pplnn.runtime import importable
from tests.helpers import tiny_bundles, tiny_models
from tests.helpers.calls import segc as command_line

WITHOUT_SEGC = "import runpy, sys; sys.modules['segc'] = None; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], "
WITHOUT_SEGC += "run_name='__main__')"


def check(kit: Path, result: Path) -> subprocess.CompletedProcess[str]:
    """Run the Python checker in an interpreter that cannot import segc."""
    command = [sys.executable, "-c", WITHOUT_SEGC, kit / "check.py", result]
    return subprocess.run(command, capture_output=True, text=True, cwd=result.parent, check=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX source, a bundle of it, and its kit."""
    folder = tmp_path_factory.mktemp("kits")
    source = tiny_models.onnx_file(folder)
    segc.compile(source, out=folder / "bundle")
    kit = segc.kit(folder / "bundle", source=source, out=folder / "kit")
    assert kit.checkers == ("python", "c++")
    assert kit.cases == ("noise 8x12", "natural image 8x12")
    return folder


def test_an_equal_engine_is_equal_and_its_result_is_accepted(made: Path, tmp_path: Path) -> None:
    done = check(made / "kit", tmp_path / "result.json")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[:2] == ["noise 8x12: equal", "natural image 8x12: equal"]
    found = segc.verify(made / "bundle", kit_result=tmp_path / "result.json")
    assert found.kit is not None
    assert found.kit.runtime.startswith("onnxruntime ")
    assert [case.agreement for case in found.kit.cases] == [1.0, 1.0]
    shown = command_line("verify", made / "bundle", "--kit-result", tmp_path / "result.json")
    assert shown.code == 0 and "within the limits in onnxruntime" in shown.out


def test_a_wrong_engine_is_not_and_the_place_is_named(made: Path, tmp_path: Path) -> None:
    kit = shutil.copytree(made / "kit", tmp_path / "kit")
    path = kit / "cases" / "0-reference.npy"
    wanted = np.load(path)
    wanted[0, 1, 2, 3] += 5 * np.abs(wanted).max()
    np.save(path, wanted)
    done = check(kit, tmp_path / "result.json")
    assert done.returncode == 1
    assert "noise 8x12: relative error" in done.stdout and "at [0, 1, 2, 3]" in done.stdout
    assert "natural image 8x12: equal" in done.stdout and "NOT EQUAL" in done.stdout
    with pytest.raises(ParityError, match="does not compute what its source does") as raised:
        segc.verify(made / "bundle", kit_result=tmp_path / "result.json")
    assert raised.value.code is Code.VERIFY_FAILED
    assert "noise 8x12: relative logit error" in raised.value.details["because"][0]


def test_another_shape_is_said(made: Path, tmp_path: Path) -> None:
    kit = shutil.copytree(made / "kit", tmp_path / "kit")
    path = kit / "cases" / "1-reference.npy"
    np.save(path, np.load(path)[:, :, 1:])
    done = check(kit, tmp_path / "result.json")
    assert "natural image 8x12: its shape is [1, 2, 8, 12], not [1, 2, 7, 12]" in done.stdout
    with pytest.raises(ParityError) as raised:
        segc.verify(made / "bundle", kit_result=tmp_path / "result.json")
    assert "returns shape [1, 2, 8, 12]" in raised.value.details["because"][0]


@pytest.mark.parametrize("target", ["openvino", "ncnn", "pplnn"])
def test_masks_of_other_runtimes(target: str, tmp_path: Path) -> None:
    if target == "pplnn" and not importable():
        pytest.skip("needs a build of ppl.nn")
    pytest.importorskip("pyppl" if target == "pplnn" else target)
    source = tiny_models.onnx_file(tmp_path)
    segc.compile(source, target=target, output="mask", out=tmp_path / "bundle")
    segc.kit(tmp_path / "bundle", source=source, out=tmp_path / "kit")
    done = check(tmp_path / "kit", tmp_path / "result.json")
    assert (done.returncode, done.stdout.count(": equal")) == (0, 2), done.stdout + done.stderr
    found = segc.verify(tmp_path / "bundle", kit_result=tmp_path / "result.json")
    assert found.kit is not None and found.kit.cases[0].relative_error is None


def test_segments_of_two_runtimes(tmp_path: Path) -> None:
    pytest.importorskip("ncnn")
    body = """g (float[1,3,8,12] x) => (float[1,4,8,12] y)
        <float[4,3,1,1] w = {1, 2, 3, 4, 5, 6, 6, 5, 4, 3, 2, 1},
         float[4,4,1,1] v = {1, -2, 3, 4, 5, 6, -6, 5, 4, 3, -2, 1, -1, 2, 3, 1}> {
        a = Conv(x, w)  b = Relu(a)  m = Trilu(b)  c = Add(b, m)  y = Conv(c, v) }"""
    source = tiny_models.onnx_file(tmp_path, body)
    bundle = segc.compile(source, target="ncnn", out=tmp_path / "bundle", partitioning=segc.Partitioning(1, 0, 0))
    assert len(bundle.manifest.segments) > 1
    kit = segc.kit(tmp_path / "bundle", source=source, out=tmp_path / "kit")
    assert kit.checkers == ("python",)
    assert "several runtimes share the model" in (tmp_path / "kit" / "README.md").read_text()
    done = check(tmp_path / "kit", tmp_path / "result.json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "onnxruntime" in done.stdout and "ncnn" in done.stdout


@pytest.mark.slow
def test_the_c_program_says_the_same(tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    if shutil.which("g++") is None:
        pytest.skip("needs a C++ compiler")
    source = tiny_models.onnx_file(tmp_path)
    segc.compile(source, target="openvino", out=tmp_path / "bundle")
    segc.kit(tmp_path / "bundle", source=source, out=tmp_path / "kit")
    there = Path(openvino.__file__).parent
    (library,) = (there / "libs").glob("libopenvino.so.*")
    program = tmp_path / "check"
    subprocess.run(
        ["g++", "-std=c++17", f"-I{there / 'include'}", tmp_path / "kit" / "check.cpp", "-o", program, library,
         f"-Wl,-rpath,{there / 'libs'}"], check=True,
    )  # fmt: skip
    done = subprocess.run([program, tmp_path / "kit", tmp_path / "r.json"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.count(": equal")) == (0, 2)
    found = segc.verify(tmp_path / "bundle", kit_result=tmp_path / "r.json")
    assert found.kit is not None and found.kit.cases[0].relative_error is not None
    path = tmp_path / "kit" / "cases" / "0-mask.npy"
    np.save(path, 1 - np.load(path))
    done = subprocess.run([program, tmp_path / "kit", tmp_path / "r.json"], capture_output=True, text=True, check=False)
    assert (done.returncode, "NOT EQUAL" in done.stdout) == (1, True)
    with pytest.raises(ParityError):
        segc.verify(tmp_path / "bundle", kit_result=tmp_path / "r.json")


def refused(call: Any, kind: type[SegcError], code: Code) -> None:
    with pytest.raises(kind) as raised:
        call()
    assert raised.value.code is code


def test_what_needs_segc_gets_no_kit(made: Path, tmp_path: Path) -> None:
    decoded = {"output__kind": "mask", "output__dtype": "uint8", "output__decode": {"resize": True}}
    tiny_bundles.bundle(tmp_path / "host", **decoded)
    refused(lambda: segc.kit(tmp_path / "host", out=tmp_path / "k"), UsageError, Code.UNSUPPORTED_BY_TARGET)
    tiny_bundles.bundle(tmp_path / "other", target__name="tensorrt")
    refused(lambda: segc.kit(tmp_path / "other", out=tmp_path / "k"), UsageError, Code.UNSUPPORTED_BY_TARGET)
    refused(lambda: segc.kit(made / "bundle", out=tmp_path / "k"), SourceError, Code.SOURCE_CHANGED)
    other = tiny_models.onnx_file(tmp_path, tiny_models.CONV.replace("-6", "-7"))
    refused(lambda: segc.kit(made / "bundle", source=other, out=tmp_path / "k"), SourceError, Code.SOURCE_CHANGED)
    assert not (tmp_path / "k").exists()


def test_a_kit_is_replaced_only_if_asked(made: Path) -> None:
    source = made / "conv.onnx"
    refused(lambda: segc.kit(made / "bundle", source=source, out=made / "kit"), FileError, Code.DESTINATION_TAKEN)
    segc.kit(made / "bundle", source=source, out=made / "kit", force=True)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"format": 1, "bundle": "x", "runtime": "r", "machine": "", "cases": []}', "[" * 10000]
)
def test_what_is_no_result_is_refused(content: str, made: Path, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(content)
    refused(lambda: segc.verify(made / "bundle", kit_result=path), FileError, Code.NOT_A_RESULT)


def test_a_result_that_is_not_there_is_refused(made: Path, tmp_path: Path) -> None:
    with pytest.raises(FileError):
        segc.verify(made / "bundle", kit_result=tmp_path / "none.json")


def test_the_result_of_another_bundle_is_refused(made: Path, tmp_path: Path) -> None:
    done = check(made / "kit", tmp_path / "r.json")
    assert done.returncode == 0
    changed = json.loads((tmp_path / "r.json").read_text()) | {"bundle": "0" * 64}
    (tmp_path / "r.json").write_text(json.dumps(changed))
    refused(
        lambda: segc.verify(made / "bundle", kit_result=tmp_path / "r.json"), BundleError, Code.KIT_OF_ANOTHER_BUNDLE
    )
