"""`segc compile --target ncnn` from end to end, and the C++ program that comes with the bundle."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

from tests.helpers.tiny_configs import config
from tests.helpers.tiny_models import CONV, DYNAMIC_CONV, onnx_file

pytest.importorskip("ncnn")

import segc
from segc import targets
from segc.compilation.request import Request, with_output
from segc.errors import CompileError, LegalityError, ParityError
from segc.frontend.model import ModelInfo, Notes
from segc.parity import bisect
from segc.passes.base import Pass, PassResult
from segc.targets import registry
from segc.targets.protocol import Settings
from segc.targets.target import Target

X = np.random.default_rng(0).standard_normal((2, 3, 8, 12)).astype(np.float32)


@pytest.mark.parametrize("output", ["logits", "mask"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_bundles_are_verified_and_run(output: str, precision: str, tmp_path: Path) -> None:
    bundle = segc.compile(
        onnx_file(tmp_path), target="ncnn", output=output, precision=precision, out=tmp_path / "b", threads=1
    )
    assert bundle.report["parity"]["failures"] == [] and len(bundle.report["parity"]["cases"]) == 2
    assert {"model.param", "model.bin", "layers.txt", "cpp/main.cpp"} <= set(bundle.manifest.files)
    made = segc.load(bundle.path, threads=1).run(X)
    shape = (2, 2, 8, 12) if output == "logits" else (2, 8, 12)
    assert made[output].shape == shape and made[output].dtype == (np.float32 if output == "logits" else np.uint8)


MMSEG = ModelInfo("mmseg", "m", "0")


@pytest.mark.parametrize(
    ("asked", "target", "info", "output"),
    [
        (None, "ncnn", MMSEG, "mask"),
        ("logits", "ncnn", MMSEG, "logits"),
        (None, "onnxruntime", MMSEG, "logits"),
        (None, "ncnn", replace(MMSEG, mode="slide"), "logits"),
        (None, "ncnn", replace(MMSEG, kind="onnx"), "logits"),
    ],
)
def test_masks_are_the_usual_output_where_models_are_known_to_give_classes(
    asked: str | None, target: str, info: ModelInfo, output: str
) -> None:
    notes = Notes()
    assert with_output(Request("m", target, output=asked), targets.get(target), info, notes).output == output
    assert [("--output logits" in note) for note in notes] == [True] * (output == "mask")


def test_an_mmseg_model_gives_masks_unless_asked_otherwise(tmp_path: Path) -> None:
    pytest.importorskip("mmseg")
    path = config(tmp_path, CLASSES="5")
    bundle = segc.compile(path, target="ncnn", shape=(16, 24), out=tmp_path / "b", threads=1)
    output = bundle.manifest.output
    assert output.kind == "mask" and bundle.report["parity"]["failures"] == []
    assert output.decode is None and output.beside is not None and not output.beside.resize
    assert bundle.report["files"][0]["agreement"] == 1.0
    logits = segc.compile(path, target="ncnn", shape=(16, 24), output="logits", out=tmp_path / "l", threads=1)
    assert logits.manifest.output.kind == "logits"


def test_a_dynamic_bundle_runs_at_any_size(tmp_path: Path) -> None:
    bundle = segc.compile(onnx_file(tmp_path, DYNAMIC_CONV), target="ncnn", dynamic=True, out=tmp_path / "b", threads=1)
    engine = segc.load(bundle.path, threads=1)
    for height, width in ((8, 12), (5, 31)):
        assert engine.run(np.zeros((1, 3, height, width), np.float32))["logits"].shape == (1, 2, height, width)


def test_equal_sources_give_equal_engines(tmp_path: Path) -> None:
    source = onnx_file(tmp_path)
    files = [segc.compile(source, target="ncnn", out=tmp_path / name).manifest.files for name in "ab"]
    assert files[0] == files[1]


def test_what_ncnn_cannot_express_is_refused_with_all_reasons(tmp_path: Path) -> None:
    text = """g (float[1,3,8,12] x) => (float[1,3,8,12] y)
        { a = Hardmax<axis = 1>(x)  b = Resize<mode = "linear", coordinate_transformation_mode = "asymmetric">
          (a, , , s)  y = Det2(b) }"""
    text = text.replace("y = Det2(b)", "y = Softsign(b)").replace("{ a", "<int64[4] s = {1, 3, 8, 12}> { a")
    with pytest.raises(LegalityError) as error:
        segc.compile(onnx_file(tmp_path, text), target="ncnn", out=tmp_path / "b", hybrid=False)
    assert all(reason in str(error.value) for reason in ("no Hardmax in ncnn", "no Softsign in ncnn", "targets/ncnn"))
    assert not (tmp_path / "b").exists()


def test_a_batch_above_one_in_the_file_is_refused(tmp_path: Path) -> None:
    fixed = onnx_file(tmp_path, CONV.replace("1,3,8,12", "2,3,8,12").replace("1,2,8,12", "2,2,8,12"))
    with pytest.raises((CompileError, segc.errors.ShapeError)):
        segc.compile(fixed, target="ncnn", out=tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_an_engine_that_computes_otherwise_is_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from segc.targets.ncnn.files import write

    right = write.write_weight

    def wrong(file: object, weight: object, *, fp16: bool) -> None:
        right(file, type(weight)(-weight.values, weight.tagged), fp16=fp16)  # type: ignore

    def in_this_process(target: Target, settings: Settings, threads: int) -> bisect.Run:
        """A child would write right weights."""

        def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
            folder = Path(mkdtemp(dir=tmp_path))
            emitted = target.emit(model, folder, settings)
            return np.asarray(target.load(folder, emitted.options, threads).run(x))

        return run

    monkeypatch.setattr(write, "write_weight", wrong)
    monkeypatch.setattr(bisect, "in_child", in_this_process)
    with pytest.raises(ParityError, match="misses the parity limits") as raised:
        segc.compile(onnx_file(tmp_path), target="ncnn", out=tmp_path / "b")
    assert not (tmp_path / "b").exists()
    said = str(raised.value)
    assert "ONNX Runtime is right on the same graph" in said and f"ncnn {version('ncnn')} is at fault" in said
    assert "another version of the runtime" in said and "--dump-ir" not in said
    assert "the smallest pattern found: Conv on 1x3x8x12" in said


class Halve(Pass):
    """A faulty pass: it halves the weights of a convolution."""

    name = "halve"
    algebra = "Conv(x, w) -> Conv(x, w / 2)"

    def run(self, graph: gs.Graph) -> PassResult:
        weight = next(node for node in graph.nodes if node.op == "Conv").inputs[1]
        weight.values = weight.values / np.float32(2)
        return PassResult(1)


def test_a_wrong_graph_is_not_the_fault_of_the_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = registry.get("ncnn")
    faulty = replace(whole, legalize=(*whole.legalize, Halve()))
    monkeypatch.setattr(targets, "get", lambda name: faulty if name == "ncnn" else registry.get(name))
    with pytest.raises(ParityError, match="misses the parity limits") as raised:
        segc.compile(onnx_file(tmp_path), target="ncnn", out=tmp_path / "b")
    said = str(raised.value)
    assert "ONNX Runtime misses the limits on the same graph" in said and "ncnn is not at fault" in said
    assert "--dump-ir DIR --check" in said
