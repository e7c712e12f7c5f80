"""Hybrid bundles end to end: OpenVINO without some operators, and ONNX Runtime for those."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

from tests.helpers import compiles
from tests.helpers.calls import refused, segc
from tests.helpers.tiny_bundles import photograph
from tests.helpers.tiny_models import changed, onnx_file, source

pytest.importorskip("openvino")
pytest.importorskip("torch")

import segc as package
from segc import targets
from segc.bundle.manifest import Manifest
from segc.bundle.store import read_bundle
from segc.errors import BundleError, LegalityError, MissingPackageError, ParityError
from segc.frontend.source import open_source
from segc.hybrid.options import Partitioning
from segc.parity.reference import reference_of
from segc.targets import Emitted, Settings, registry
from segc.targets.checks import static_map
from segc.targets.openvino.target import OPENVINO

NET = changed(
    "y = self.head(torch.relu(self.conv(x)))", "y = torch.relu(self.conv(x))\n        y = self.head(y * torch.erf(y))"
)
NET = NET.replace("8, 3, stride=2, padding=1", "8, 5, stride=2, padding=2")  # enough work for the cost model
NET = NET.replace("nn.Conv2d(8, channels, 1)", "nn.Conv2d(8, channels, 5, padding=2)")
KEEP = Partitioning(work_per_byte=0)
Without = Callable[..., None]


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Without:
    """Take operators from OpenVINO's table, and change other fields."""

    def restrict(*ops: str, **changes: Any) -> None:
        rows = {op: checks for op, checks in OPENVINO.ops.items() if op not in ops}
        small = dataclasses.replace(OPENVINO, ops=rows, **changes)
        monkeypatch.setattr(targets, "get", lambda name: small if name == "openvino" else registry.get(name))

    return restrict


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).standard_normal(shape).astype(np.float32)


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def require_equal(path: Path, bundle: Path, *shapes: tuple[int, int, int, int]) -> None:
    engine, reference = package.load(bundle, threads=1), reference_of(open_source(path))
    for shape in shapes:
        want = reference(x := noise(*shape))
        np.testing.assert_allclose(engine.run(x)["logits"], want, atol=1e-4 * float(np.abs(want).max()))


def compiled(path: Path, out: Path, **options: Any) -> package.Bundle:
    made = compiles.compiled if path.suffix == ".py" else package.compile
    return made(path, target="openvino", out=out, partitioning=KEEP, threads=1, **options)


def test_a_static_bundle_in_segments_equals_pytorch(tmp_path: Path, without: Without) -> None:
    without("Erf")
    path = source(tmp_path, NET)
    bundle = compiled(path, tmp_path / "b", shape=(19, 23))
    manifest = bundle.manifest
    assert [s.target for s in manifest.segments] == ["openvino", "onnxruntime", "openvino"]
    assert [s.directory for s in manifest.segments] == [
        "segments/0-openvino", "segments/1-onnxruntime", "segments/2-openvino"
    ]  # fmt: skip
    assert manifest.segments[1].files == ("segments/1-onnxruntime/model.onnx",)
    assert manifest.hybrid == "hybrid (3 segments, 1 node on host)" == bundle.report["hybrid"]["summary"]
    assert manifest.target.options == {} and manifest.segments[0].options == {"INFERENCE_PRECISION_HINT": "f32"}
    (boundary,) = manifest.segments[1].inputs
    assert (boundary.dtype, boundary.shape, boundary.bytes) == ("float32", (1, 8, 10, 12), 8 * 10 * 12 * 4)
    require_equal(path, bundle.path, (1, 3, 19, 23), (3, 3, 19, 23))
    assert "hybrid (3 segments, 1 node on host)" in repr(package.load(bundle.path))


def test_a_dynamic_bundle_in_segments_equals_pytorch_at_any_size(tmp_path: Path, without: Without) -> None:
    without("Erf")
    path = source(tmp_path, NET)
    bundle = compiled(path, tmp_path / "b", dynamic=True, trace_shape=(24, 40))
    assert [s.target for s in bundle.manifest.segments] == ["openvino", "onnxruntime", "openvino"]
    (boundary,) = bundle.manifest.segments[1].outputs
    assert boundary.shape == (None, 8, None, None) and boundary.bytes == 8 * 12 * 20 * 4
    require_equal(path, bundle.path, (1, 3, 31, 47), (2, 3, 16, 20))


def test_a_mask_in_segments(tmp_path: Path, without: Without) -> None:
    without("Cast")
    path = source(tmp_path, NET)
    bundle = compiled(path, tmp_path / "b", shape=(18, 22), output="mask")
    mask = package.load(bundle.path).run(x := noise(1, 3, 18, 22))["mask"]
    assert (mask == reference_of(open_source(path))(x).argmax(1)).mean() > 0.995
    assert bundle.manifest.hybrid


def test_segments_of_engines_with_one_input_and_output(tmp_path: Path, without: Without) -> None:
    without("Erf", runtime=dataclasses.replace(OPENVINO.runtime, multi_io=False), boundary=static_map)
    path = source(tmp_path, NET)
    bundle = compiled(path, tmp_path / "b", shape=(18, 22))
    mine = [s for s in bundle.manifest.segments if s.target == "openvino"]
    assert mine and all(len(s.inputs) == len(s.outputs) == 1 for s in mine)
    require_equal(path, bundle.path, (1, 3, 18, 22))


def test_equal_inputs_give_equal_bundles(tmp_path: Path, without: Without) -> None:
    without("Erf")
    path = source(tmp_path, NET)
    first = tree(compiled(path, tmp_path / "a", shape=(18, 22)).path)  # of a trace that other tests share
    options: dict[str, Any] = {"target": "openvino", "partitioning": KEEP, "threads": 1, "shape": (18, 22)}
    second = tree(package.compile(path, out=tmp_path / "b", **options).path)
    timed = ("report.json", "report.html")
    assert {name: value for name, value in first.items() if name not in timed} == {
        name: value for name, value in second.items() if name not in timed
    }


def test_an_engine_that_cannot_run_here_is_judged_by_its_segments(tmp_path: Path, without: Without) -> None:
    without("Erf", cannot_run=lambda _: "there is no such device")
    bundle = compiled(source(tmp_path, NET), tmp_path / "b", shape=(18, 22))
    assert bundle.report["status"] == "built, not run: there is no such device"
    assert bundle.report["hybrid"]["segments"] == 3 and len(bundle.report["parity"]["cases"]) == 2


def test_the_command_line_says_hybrid_everywhere(tmp_path: Path, without: Without) -> None:
    without("Erf")
    path, out = source(tmp_path, NET), tmp_path / "b"
    made = segc("compile", path, "--target", "openvino", "--shape", "128x128", "-o", out, "--threads", "1")
    assert made.code == 0, made.err
    said = "hybrid (3 segments, 1 node on host)"
    assert said in made.out and "no Erf in openvino: 1 node" in made.out
    cv2.imwrite(str(tmp_path / "photo.png"), photograph(40, 50))
    ran = segc("run", out, tmp_path / "photo.png", "-o", tmp_path / "masks")
    assert ran.code == 0 and said in ran.out
    assert json.loads(segc("run", out, tmp_path / "photo.png", "-o", tmp_path / "more", "--json").out)["hybrid"] == said
    seen = segc("inspect", out)
    assert seen.code == 0 and f"hybrid: {said}" in seen.out
    assert f"float32 (1, 8, 64, 64) {8 * 64 * 64 * 4} bytes" in seen.out
    content = json.loads(segc("inspect", out, "--json").out)
    assert content["segments"][1]["inputs"][0]["bytes"] == 8 * 64 * 64 * 4
    assert content["activations"]["segments/1-onnxruntime/model.onnx"]["peak_mb"] > 0
    checked = segc("verify", out, path)
    assert checked.code == 0 and said in checked.out
    timed = segc("bench", out, "--runs", "1", "--json")
    assert timed.code == 0 and said in json.loads(timed.out)[0]["engine"]


def test_no_hybrid_refuses_with_nodes_and_torch_lines(tmp_path: Path, without: Without) -> None:
    without("Erf")
    path = source(tmp_path, NET)
    words = ("compile", path, "--target", "openvino", "-o", tmp_path / "b", "--no-hybrid")
    refused(segc(*words), LegalityError.exit_code, "openvino cannot run 1 node", "net.py:16", "omit --no-hybrid")
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "__pycache__") == ["net.py"]


def test_parts_that_are_not_worth_it_are_refused_and_the_message_says_so(tmp_path: Path, without: Without) -> None:
    without("Erf")
    words = ("compile", source(tmp_path, NET), "--target", "openvino", "-o", tmp_path / "b", "--min-segment", "50")
    refused(segc(*words), LegalityError.exit_code, "openvino cannot run 1 node", "small parts stay", "0.0% of the work")


def test_a_segment_that_computes_something_else_is_not_published(tmp_path: Path, without: Without) -> None:
    def emit(model: onnx.ModelProto, directory: Path, settings: Settings) -> Emitted:
        for weight in model.graph.initializer:
            values = onnx.numpy_helper.to_array(weight)
            if values.ndim == 4:
                weight.CopyFrom(onnx.numpy_helper.from_array(values * np.float32(1.1), weight.name))
        return OPENVINO.emit(model, directory, settings)

    without("Erf", emit=emit)
    with pytest.raises(ParityError, match="not published"):
        compiled(source(tmp_path, NET), tmp_path / "b", shape=(18, 22))
    assert not (tmp_path / "b").exists()


@pytest.fixture
def bundle(tmp_path: Path, without: Without) -> Path:
    without("Erf")
    return compiled(source(tmp_path, NET), tmp_path / "b", shape=(18, 22)).path


def test_damage_to_a_file_of_a_segment_is_noticed(bundle: Path) -> None:
    for name in read_bundle(bundle).files:
        kept = (bundle / name).read_bytes()
        (bundle / name).write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
        with pytest.raises(BundleError, match=name):
            package.load(bundle)
        (bundle / name).unlink()
        with pytest.raises(BundleError, match=name):
            package.load(bundle)
        (bundle / name).write_bytes(kept)
    package.load(bundle)


def test_a_missing_runtime_of_a_segment_is_named(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segc.runtime.engine._installed", lambda module: module != "onnxruntime")
    with pytest.raises(MissingPackageError, match="onnxruntime is not installed"):
        package.load(bundle)


def broken(change: Callable[[dict[str, Any]], None]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    def apply(content: Mapping[str, Any]) -> dict[str, Any]:
        copy: dict[str, Any] = json.loads(json.dumps(content))
        change(copy)
        return copy

    return apply


BROKEN = {
    "an output of an earlier segment": broken(lambda c: c["segments"].reverse()),
    "a folder below the bundle": broken(lambda c: c["segments"][0].update(directory="../elsewhere")),
    "that `files` lists": broken(lambda c: c["segments"][0].update(files=["model.xml"])),
    "a segment that writes the output": broken(lambda c: c["segments"].pop()),
    "the field": broken(lambda c: c["segments"][0].pop("nodes")),
    "a whole number": broken(lambda c: c["segments"][0].update(nodes="3")),
}


@pytest.mark.parametrize("said", BROKEN)
def test_a_manifest_whose_segments_cannot_run_is_refused(bundle: Path, said: str) -> None:
    content = {k: v for k, v in read_bundle(bundle).to_json().items() if k not in ("sha256", "format", "segc")}
    assert Manifest.from_content(content).hybrid
    with pytest.raises(BundleError, match=said):
        Manifest.from_content(BROKEN[said](content))


def test_an_interrupt_between_two_segments_leaves_nothing(tmp_path: Path, without: Without) -> None:
    path, written = source(tmp_path, NET), list[Path]()

    def emit(model: onnx.ModelProto, directory: Path, settings: Settings) -> Emitted:
        if written:
            raise KeyboardInterrupt
        written.append(directory)
        return OPENVINO.emit(model, directory, settings)

    without("Erf", emit=emit)
    done = segc("compile", path, "--target", "openvino", "--shape", "128x128", "-o", tmp_path / "b")
    assert done.code == 130 and written[0].parts[-2:] == ("segments", "0-openvino")
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "__pycache__") == ["net.py"]


def test_an_onnx_file_in_segments(tmp_path: Path, without: Without) -> None:
    without("Erf")
    text = """g (float[1,3,8,12] x) => (float[1,2,8,12] y) <float[2,3,1,1] w = {1, -2, 3, -4, 5, -6}>
        { e = Erf(x)  y = Conv(e, w) }"""
    path = onnx_file(tmp_path, text)
    bundle = compiled(path, tmp_path / "b")
    assert [s.target for s in bundle.manifest.segments] == ["onnxruntime", "openvino"]
    require_equal(path, bundle.path, (1, 3, 8, 12))


TRIANGLE = NET.replace("y * torch.erf(y)", "torch.tril(y)")


@pytest.mark.parametrize("options", [{"shape": (32, 48)}, {"dynamic": True, "trace_shape": (32, 48)}])
def test_ncnn_runs_all_but_what_it_has_no_layer_for(tmp_path: Path, options: dict[str, Any]) -> None:
    pytest.importorskip("ncnn")
    path = source(tmp_path, TRIANGLE)
    bundle = package.compile(path, target="ncnn", out=tmp_path / "b", threads=1, **options)
    assert [s.target for s in bundle.manifest.segments][:3] == ["ncnn", "onnxruntime", "ncnn"]
    assert any("no Trilu in ncnn: 1 node" in line for line in bundle.report["hybrid"]["refused"])
    require_equal(path, bundle.path, (1, 3, 32, 48), (2, 3, 32, 48))
    if "dynamic" in options:
        require_equal(path, bundle.path, (1, 3, 41, 30))


def test_a_batch_does_not_go_into_ncnn_map_by_map() -> None:
    pytest.importorskip("ncnn")
    boundary = targets.get("ncnn").boundary
    assert boundary(gs.Variable("t", np.float32, [1, 8, "H", 4])) is None
    assert "not 1 x C" in str(boundary(gs.Variable("t", np.float32, [4, 8, 4, 4])))
    assert "not 1 x C" in str(boundary(gs.Variable("t", np.float32, [1, 8, 4])))
    assert "not float32" in str(boundary(gs.Variable("t", np.int64, [1, 8, 4, 4])))
