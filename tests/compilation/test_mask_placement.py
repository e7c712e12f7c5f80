"""Masks from small logits by segc's runtime, masks in the graph, and images in as they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs
import pytest

import segc
from segc import targets
from segc.commands.verify import verify
from segc.compilation import manifest_builder, mask_placement
from segc.errors import ParityError, ShapeError, UsageError
from segc.frontend.model import ModelInfo, Notes
from segc.targets.protocol import Settings
from tests.helpers import compiles
from tests.helpers.tiny_bundles import photograph
from tests.helpers.tiny_models import changed, onnx_file, source

torch = pytest.importorskip("torch")
TARGETS = ["onnxruntime", "openvino"]


def image(height: int, width: int) -> np.ndarray:
    return photograph(height, width)


def compiled(path: Path, out: Path, **options: object) -> segc.Bundle:
    if path.suffix == ".py":
        return compiles.compiled(path, out=out, force=True, **options)
    return segc.compile(path, out=out, force=True, **options)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("channels", [1, 5, 300])
def test_host_and_graph_give_the_masks_of_the_logits(target: str, channels: int, tmp_path: Path) -> None:
    pytest.importorskip(target)
    path = source(tmp_path, channels=channels)
    meta = "meta = dict(shape=(24, 40))"
    bundles = {
        way: compiled(path, tmp_path / way, target=target, output="mask", decode=way) for way in ("host", "graph")
    }
    logits = compiled(path, tmp_path / "logits", target=target)
    assert meta in path.read_text()
    x = np.random.default_rng(0).standard_normal((1, 3, 24, 40)).astype(np.float32)
    large = segc.load(logits.path).run(x)["logits"]
    want = large.argmax(1) if channels > 1 else (large[:, 0] > 0).astype(int)
    for way, bundle in bundles.items():
        mask = segc.load(bundle.path, threads=1).run(x)["mask"]
        assert mask.dtype == (np.uint16 if channels > 256 else np.uint8)
        assert (mask == want).mean() >= 0.999, way
        verify(bundle.path, source=path)
    assert bundles["host"].manifest.output.decode is not None and bundles["host"].manifest.output.decode.resize
    assert bundles["graph"].manifest.output.decode is None
    assert "strip-final-resize" in [p.name for p in bundles["host"].manifest.passes]


def test_a_mask_made_by_the_runtime_has_the_image_s_size_as_mmseg_gives_it(tmp_path: Path) -> None:
    path = source(tmp_path)
    host = segc.load(compiled(path, tmp_path / "host", output="mask", decode="host").path)
    logits = segc.load(compiled(path, tmp_path / "logits").path)
    for size in ((50, 70), (24, 40), (17, 61)):
        want = logits.segment(image(*size)).mask
        assert (host.segment(image(*size)).mask == want).mean() >= 0.999
        direct = host.segment(image(*size), direct=True).mask
        assert direct.shape == size and (direct == want).mean() > 0.8


def test_dynamic_engines_leave_their_resize_too(tmp_path: Path) -> None:
    path = source(tmp_path)
    bundle = compiled(path, tmp_path / "d", output="mask", decode="host", dynamic=True)
    assert bundle.manifest.output.decode is not None and bundle.manifest.output.decode.resize
    engine, logits = segc.load(bundle.path), segc.load(compiled(path, tmp_path / "l", dynamic=True).path)
    x = np.random.default_rng(0).standard_normal((2, 3, 30, 26)).astype(np.float32)
    assert (engine.run(x)["mask"] == logits.run(x)["logits"].argmax(1)).mean() >= 0.999
    assert (engine.segment(image(33, 47)).mask == logits.segment(image(33, 47)).mask).mean() >= 0.999


def test_logits_without_a_last_resize_are_decided_as_they_are(tmp_path: Path) -> None:
    bundle = compiled(onnx_file(tmp_path), tmp_path / "b", output="mask", decode="host")
    assert bundle.manifest.output.decode is not None and not bundle.manifest.output.decode.resize
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 12)).astype(np.float32)
    assert segc.load(bundle.path).run(x)["mask"].shape == (1, 8, 12)
    assert segc.load(bundle.path).segment(image(20, 30)).mask.shape == (20, 30)


@pytest.mark.parametrize("target", TARGETS)
def test_auto_takes_what_was_measured_and_says_so(target: str, tmp_path: Path) -> None:
    pytest.importorskip(target)
    bundle = compiled(source(tmp_path), tmp_path / "b", target=target, output="mask", decode="auto")
    figures = bundle.report["timings"]["decode"]
    faster = "graph" if figures.get("graph_ms", np.inf) < 0.9 * figures["host_ms"] else "host"
    assert (bundle.manifest.output.decode is not None) == (faster == "host")
    assert any("masks are made" in note for note in bundle.report["notes"])
    assert json.loads((bundle.path / "segc.json").read_text())["output"]["kind"] == "mask"


def test_the_head_is_looked_for_once_also_where_the_engine_is_built_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, channels = manifest_builder.with_head, []

    def seen(info: ModelInfo, graph: gs.Graph, notes: Notes) -> ModelInfo:
        channels.append(info.channels)
        return found(info, graph, notes)

    monkeypatch.setattr(manifest_builder, "with_head", seen)
    monkeypatch.setattr(mask_placement, "measure", lambda *_: mask_placement.Choice(2, 1))
    bundle = compiled(onnx_file(tmp_path), tmp_path / "b", output="mask", decode="auto")
    assert bundle.manifest.output.decode is None
    assert channels == [0, 2]  # the second lowering knew it


@pytest.mark.parametrize(("host_ms", "graph_ms", "way"), [(1, 2, "host"), (2, 1, "graph"), (1, 0.95, "host")])
def test_the_graph_must_be_clearly_faster(host_ms: float, graph_ms: float, way: str) -> None:
    assert mask_placement.Choice(host_ms, graph_ms).placement == way
    assert mask_placement.Choice(host_ms, None).placement == "host"


def test_a_target_that_cannot_make_the_mask_leaves_it_to_the_host() -> None:
    import dataclasses

    target = targets.get("onnxruntime")
    without = dataclasses.replace(target, ops={op: c for op, c in target.ops.items() if op != "ArgMax"})
    logits = np.random.default_rng(0).standard_normal((1, 4, 6, 8)).astype(np.float32)
    tail = mask_placement.Tail((24, 32), False, None)
    assert mask_placement.measure(tail, logits, without, Settings(), 1).graph_ms is None
    assert mask_placement.measure(tail, logits, target, Settings(), 1).graph_ms is not None


def test_a_mask_that_is_wrong_fails_the_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        mask_placement.Tail, "on_host", lambda self, x, threads: np.zeros((len(x), *self.size), np.uint8)
    )
    with pytest.raises(ParityError, match="misses the parity limits"):
        compiled(source(tmp_path), tmp_path / "b", output="mask", decode="host")
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("output", ["logits", "mask"])
def test_images_go_in_as_they_are(target: str, output: str, tmp_path: Path) -> None:
    pytest.importorskip(target)
    path = source(tmp_path, changed("meta = dict(shape=(24, 40))", META))
    bundle = compiled(path, tmp_path / "u", target=target, input="uint8", output=output)
    floats = compiled(path, tmp_path / "f", target=target, output=output)
    assert (bundle.manifest.input.dtype, bundle.manifest.input.layout) == ("uint8", "NHWC")
    assert bundle.manifest.input.shape == (1, 3, 24, 40)
    verify(bundle.path, source=path)
    for size in ((24, 40), (50, 30)):
        got, want = (segc.load(b.path).segment(image(*size)).mask for b in (bundle, floats))
        assert (got == want).mean() >= 0.999
    engine = segc.load(bundle.path)
    assert next(iter(engine.run(image(24, 40)[None]).values())).shape[-2:] == (24, 40)
    with pytest.raises(UsageError, match="uint8 is needed"):
        engine.run(np.zeros((1, 3, 24, 40), np.float32))
    with pytest.raises(ShapeError, match="N, H, W, C"):
        engine.run(np.zeros((1, 3, 24, 40), np.uint8))


META = "meta = dict(shape=(24, 40), mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"decode": "host"}, "needs --output mask"),
        ({"decode": "both", "output": "mask"}, "no mask placement 'both'"),
        ({"input": "int8"}, "no input 'int8'"),
        ({"input": "uint8", "dynamic": True}, "--input uint8 and --dynamic exclude"),
        ({"input": "uint8", "check": True}, "--input uint8 and --check exclude"),
        ({"input": "uint8", "target": "ncnn"}, "do not take uint8 images"),
    ],
)
def test_what_does_not_go_together_is_refused(options: dict[str, object], said: str, tmp_path: Path) -> None:
    if "target" in options:
        pytest.importorskip(str(options["target"]))
    with pytest.raises(UsageError, match=said):
        compiled(source(tmp_path), tmp_path / "b", **options)
    assert not (tmp_path / "b").exists()


def test_models_of_other_channels_take_no_images(tmp_path: Path) -> None:
    text = "g (float[1,4,8,12] x) => (float[1,2,8,12] y) <float[2,4,1,1] w = {1,2,3,4,5,6,7,8}> { y = Conv(x, w) }"
    with pytest.raises(UsageError, match="three channels"):
        compiled(onnx_file(tmp_path, text), tmp_path / "b", input="uint8")
