"""float16 and bfloat16 files, as converters write them, on every target: as the same graph in float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

import segc
from segc import targets
from segc.commands.optimize import optimize
from segc.errors import SourceError
from segc.graph.widen import widen
from tests.helpers.foreign_models import in_float32, run, saliency_net, saved

SIZE = (1, 3, 32, 48)


def logit(p: np.ndarray) -> np.ndarray:
    wide = p.astype(np.float64)
    return np.asarray(np.log(wide / (1 - wide)))


@pytest.mark.parametrize("target", targets.names())
def test_a_salient_object_net_in_float16_compiles_for_every_target(tmp_path: Path, target: str) -> None:
    path = saved(saliency_net(), tmp_path / "net.onnx")
    bundle = segc.compile(path, target=target, out=tmp_path / "b", output="logits")
    notes = bundle.report["notes"]
    assert any("computes in float16" in note for note in notes)
    assert any("'out' is taken, without side1, side2" in note for note in notes)
    assert any("by a Sigmoid" in note for note in notes)
    assert bundle.manifest.output.threshold == 0.5 and not bundle.manifest.segments
    if bundle.report["status"] != "ok":
        return
    x = np.random.default_rng(3).random(SIZE).astype(np.float32)
    want = run(in_float32(), image=x)["out"]
    np.testing.assert_allclose(segc.load(bundle.path).run(x)["logits"], logit(want), atol=2e-4)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16], ids=["float16", "bfloat16"])
def test_inputs_and_outputs_may_be_narrow_too(tmp_path: Path, kind: int) -> None:
    path = saved(saliency_net(kind, keep_io=False), tmp_path / "net.onnx")
    bundle = segc.compile(path, out=tmp_path / "b")
    assert bundle.manifest.input.dtype == "float32" and bundle.manifest.output.dtype == "float32"
    x = np.random.default_rng(3).random(SIZE).astype(np.float32)
    wide = onnx.load_from_string(path.read_bytes())
    assert widen(wide) == ["float16" if kind == TensorProto.FLOAT16 else "bfloat16"]
    want = run(wide, image=x)["out"]
    np.testing.assert_allclose(segc.load(bundle.path).run(x)["logits"], logit(want), atol=2e-4)


def test_float16_is_kept_where_it_is_asked_for(tmp_path: Path) -> None:
    path = saved(saliency_net(), tmp_path / "net.onnx")
    bundle = segc.compile(path, out=tmp_path / "b", precision="fp16")
    emitted = onnx.load(bundle.path / "model.onnx")
    assert any(tensor.data_type == TensorProto.FLOAT16 for tensor in emitted.graph.initializer)


def test_segc_opt_keeps_bfloat16_or_refuses_it_by_name(tmp_path: Path) -> None:
    model = saliency_net(TensorProto.BFLOAT16)
    model.opset_import[0].version, model.ir_version = 22, 10
    path = saved(model, tmp_path / "net.onnx")
    optimize(path, out=tmp_path / "out.onnx")
    kept = onnx.load(tmp_path / "out.onnx").graph.initializer
    assert {tensor.data_type for tensor in kept} == {TensorProto.BFLOAT16, TensorProto.FLOAT}
    with pytest.raises(SourceError, match="in opset 20 Conv takes no tensor\\(bfloat16\\)"):
        optimize(path, target="ncnn", out=tmp_path / "ncnn.onnx")
