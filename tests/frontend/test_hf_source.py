"""`hf:NAME_OR_FOLDER`: nothing is downloaded, and `segment(file)` equals image processor, model and post-processing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import segc
from segc.bundle.preprocessing import Preprocessing
from segc.bundle.typed import decode
from segc.compilation import manifest_builder
from segc.errors import CheckpointError, Code, SourceError
from segc.frontend import hf_images
from segc.frontend.given import Given
from segc.frontend.hf_on_files import HfOnFiles
from segc.frontend.model import ModelInfo
from segc.frontend.source import open_source
from segc.runtime.images import read_image
from segc.runtime.preprocessing import preprocess
from segc.support_matrix.elsewhere import written as written_by_matrix
from tests.helpers.hf_models import MADE, transformers, written
from tests.helpers.tiny_bundles import photograph

EDGES = {"shortest_edge": 64, "longest_edge": 80}


def compiled(folder: Path, **settings: Any) -> segc.Bundle:
    return segc.compile(f"hf:{folder}", out=folder.parent / f"{folder.name}-bundle", **settings)


def require_equal(bundle: segc.Bundle) -> None:
    (case,) = bundle.report["files"]
    assert case["size"] == [107, 161]
    assert case["tensor_error"] < 1e-5
    assert case["equal"] >= 0.999


@pytest.fixture(scope="module")
def weighted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written("segformer", tmp_path_factory.mktemp("hf") / "weighted", weights=True)


def test_logits_at_a_quarter_are_resized_to_the_picture_in_one_step(weighted: Path) -> None:
    bundle = compiled(weighted)
    require_equal(bundle)
    assert bundle.manifest.inference.direct
    assert bundle.manifest.source.weights == "checkpoint"
    assert bundle.manifest.source.checkpoint is not None
    assert bundle.manifest.source.checkpoint.name == "model.safetensors"
    x = torch.rand(1, 3, 64, 96).numpy()
    assert segc.load(bundle.path).run(x)["logits"].shape == (1, 5, 16, 24)


@pytest.mark.parametrize("target", ["onnxruntime", "openvino", "ncnn"])
def test_masks_equal_the_librarys_on_files_unless_the_engine_makes_them(
    weighted: Path, tmp_path: Path, target: str
) -> None:
    pytest.importorskip(target)
    bundle = segc.compile(f"hf:{weighted}", target=target, output="mask", out=tmp_path / "bundle")
    require_equal(bundle)
    assert bundle.manifest.output.decode is not None
    assert any("--decode graph" in note for note in bundle.report["notes"])
    assert segc.load(bundle.path).run(torch.rand(1, 3, 64, 96).numpy())["mask"].shape == (1, 64, 96)
    segc.verify(bundle.path, source=f"hf:{weighted}")


@pytest.mark.parametrize("settings", [{}, {"target": "ncnn", "output": "mask", "decode": "graph"}])
def test_a_model_that_resizes_its_logits_itself_is_resized_again(settings: dict[str, Any], tmp_path: Path) -> None:
    bundle = compiled(Path(written_by_matrix("hf:upernet-convnext", tmp_path)[3:]), shape=(64, 64), **settings)
    require_equal(bundle)
    assert not bundle.manifest.inference.direct


def test_a_mean_that_the_processor_has_no_code_for_is_left_out(tmp_path: Path) -> None:
    source = open_source(written_by_matrix("hf:mobilevit", tmp_path))
    assert source.info.mean == (0.0, 0.0, 0.0) and source.info.std == pytest.approx((255.0,) * 3)
    assert source.info.channel_order == "BGR"


def test_masks_are_in_the_graph_where_the_user_says_so(weighted: Path, tmp_path: Path) -> None:
    bundle = segc.compile(f"hf:{weighted}", output="mask", decode="graph", out=tmp_path / "bundle")
    assert bundle.manifest.output.decode is None
    assert any("by nearest neighbour" in note and "--decode host" in note for note in bundle.report["notes"])


@pytest.mark.parametrize(("name", "settings"), [("mask2former", {}), ("eomt", {"mode": "whole"})])
def test_universal_models_give_the_semantic_map_of_their_post_processing(
    name: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    bundle = compiled(written(name, tmp_path / name), **settings)
    require_equal(bundle)
    assert bundle.manifest.source.weights == "random"
    assert bundle.manifest.output.channels == 5


@pytest.mark.parametrize(
    "processor",
    [
        lambda: transformers.SegformerImageProcessorPil(size={"height": 48, "width": 64}),
        lambda: transformers.SegformerImageProcessorPil(do_resize=False, do_normalize=False),
        lambda: transformers.BeitImageProcessorPil(
            size={"height": 70, "width": 70}, do_center_crop=True, crop_size={"height": 64, "width": 63}
        ),
        lambda: transformers.MobileNetV2ImageProcessorPil(
            size={"shortest_edge": 65}, crop_size={"height": 64, "width": 64}
        ),
        lambda: transformers.MobileViTImageProcessorPil(
            size={"shortest_edge": 70}, crop_size={"height": 64, "width": 64}
        ),
        lambda: transformers.DPTImageProcessorPil(
            size={"height": 96, "width": 96}, keep_aspect_ratio=True, ensure_multiple_of=32
        ),
        lambda: transformers.DPTImageProcessorPil(size={"height": 90, "width": 70}, ensure_multiple_of=32),
        lambda: transformers.Mask2FormerImageProcessorPil(size=EDGES, size_divisor=32),
        lambda: transformers.MaskFormerImageProcessorPil(size=EDGES, size_divisor=0),
        lambda: transformers.EomtImageProcessorPil(size=EDGES, do_pad=True),
        lambda: transformers.DetrImageProcessorPil(size=EDGES, resample=2),
    ],
)
@pytest.mark.parametrize("size", [(107, 161), (161, 107), (97, 97)])
def test_images_are_prepared_as_the_processor_does(processor: Any, size: tuple[int, int], tmp_path: Path) -> None:
    import cv2

    made = processor()
    cv2.imwrite(str(tmp_path / "a.png"), photograph(*size))
    want = HfOnFiles(torch.nn.Identity(), made, whole=False).tensor(tmp_path / "a.png", None)
    info = hf_images.prepared(ModelInfo("hf", "a", "0" * 64), made, whole=False)
    how = decode(Preprocessing, json.loads(json.dumps(manifest_builder.preprocessing(info, None))))
    x, _ = preprocess(read_image(tmp_path / "a.png", loader=how.loader), how)
    assert want is not None
    assert x.shape == want.shape
    assert abs(x - want).max() < 1e-5


def test_a_model_that_is_not_here_is_refused_and_not_downloaded() -> None:
    with pytest.raises(
        SourceError, match=r"(?s)segc/not-here' is not on this machine.*hf download segc/not-here"
    ) as error:
        open_source("hf:segc/not-here")
    assert error.value.code == Code.NOT_LOCAL


def test_a_model_in_the_local_cache_is_found(weighted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    snapshot = tmp_path / "models--segc--tiny" / "snapshots" / "0123"
    shutil.copytree(weighted, snapshot)
    (tmp_path / "models--segc--tiny" / "refs").mkdir()
    (tmp_path / "models--segc--tiny" / "refs" / "main").write_text("0123")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    source = open_source("hf:segc/tiny")
    assert source.info.name == "hf:segc/tiny"
    assert source.info.checkpoint is not None


def test_code_in_the_folder_is_refused_unless_asked_for(tmp_path: Path) -> None:
    folder = written("segformer", tmp_path / "own")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own-kind", "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w').close()\n"
        "from transformers import SegformerConfig, SegformerForSemanticSegmentation\n\n\n"
        "class OwnConfig(SegformerConfig):\n    model_type = 'own-kind'\n\n\n"
        "class OwnModel(SegformerForSemanticSegmentation):\n    config_class = OwnConfig\n"
    )
    with pytest.raises(
        SourceError, match=r"(?s)Python code of its own folder.*own.OwnModel.*--trust-remote-code"
    ) as error:
        open_source(f"hf:{folder}")
    assert error.value.code == Code.REMOTE_CODE
    assert not (tmp_path / "ran").exists()
    source = open_source(f"hf:{folder}", given=Given(trust_remote_code=True))
    assert (tmp_path / "ran").exists()
    assert source.module is not None
    assert source.module(torch.rand(1, 3, 64, 64)).shape == (1, 5, 16, 16)
    made = segc.compile(f"hf:{folder}", out=tmp_path / "b", shape=(64, 64), trust_remote_code=True)
    with pytest.raises(SourceError, match="Python code of its own folder"):
        segc.verify(made.path, source=f"hf:{folder}")
    assert segc.verify(made.path, source=f"hf:{folder}", trust_remote_code=True).cases


def test_half_precision_weights_are_widened_and_said(tmp_path: Path) -> None:
    source = open_source(f"hf:{written('segformer', tmp_path / 'half', weights=True, dtype=torch.float16)}")
    assert any("float16" in note and "float32" in note for note in source.notes)
    assert source.module is not None
    assert {p.dtype for p in source.module.parameters()} == {torch.float32}


def test_a_checkpoint_replaces_the_folders_weights(weighted: Path, tmp_path: Path) -> None:
    made, config, _ = MADE["segformer"]()
    torch.manual_seed(9)
    model = made(config).eval()
    torch.save(model.state_dict(), tmp_path / "a.pth")
    source = open_source(f"hf:{weighted}", checkpoint=tmp_path / "a.pth")
    x = torch.rand(1, 3, 64, 64)
    assert source.module is not None
    with torch.no_grad():
        assert (source.module(x) - model(x).logits).abs().max() < 1e-6


def test_weights_that_lack_a_part_are_refused(weighted: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(weighted, tmp_path / "cut")
    state = load_file(folder / "model.safetensors")
    kept = {key: value for key, value in state.items() if "classifier" not in key}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"(?s)do not fit.*missing_keys: decode_head.classifier"):
        open_source(f"hf:{folder}")
    assert open_source(f"hf:{folder}", allow_mismatch=True).notes


def changed(folder: Path, file: str, **values: Any) -> str:
    content = json.loads((folder / file).read_text()) | values
    (folder / file).write_text(json.dumps(content))
    return f"hf:{folder}"


def test_images_that_are_split_are_refused_unless_whole_ones_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"(?s)do_split_image.*--mode whole") as error:
        open_source(f"hf:{written('eomt', tmp_path / 'eomt')}")
    assert error.value.code == Code.OWN_PREPROCESSING


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"do_thumbnail": True}, "do_thumbnail"),
        ({"resample": 5}, "kernel 5"),
        ({"size": {"max_height": 64, "max_width": 64}}, "its size is"),
    ],
)
def test_processors_that_do_more_are_refused_by_what_they_do(values: dict[str, Any], said: str, tmp_path: Path) -> None:
    source = changed(written("segformer", tmp_path / "a"), "preprocessor_config.json", **values)
    with pytest.raises(SourceError, match=f"(?s)prepares images as segc does not.*{said}"):
        open_source(source)


def test_a_folder_without_a_processor_needs_mean_and_std(tmp_path: Path) -> None:
    folder = written("segformer", tmp_path / "a")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(SourceError, match="does not say how images are prepared"):
        open_source(f"hf:{folder}")
    assert open_source(f"hf:{folder}", given=Given(mean=(127.5,), std=(127.5,))).on_files is None


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"architectures": ["SegformerForImageClassification"]}, Code.NOT_SEGMENTATION),
        ({"model_type": "no-such-kind"}, Code.CONFIG),
        ({"hidden_act": "no-such-function"}, Code.CONFIG_MODEL),
    ],
)
def test_models_that_cannot_be_used_are_refused(values: dict[str, Any], code: Code, tmp_path: Path) -> None:
    with pytest.raises(SourceError) as error:
        open_source(changed(written("segformer", tmp_path / "a"), "config.json", **values))
    assert error.value.code == code


def test_a_model_that_needs_more_than_an_image_is_refused_by_the_inputs_name(tmp_path: Path) -> None:
    transformers.OneFormerConfig(architectures=["OneFormerForUniversalSegmentation"]).save_pretrained(tmp_path)
    with pytest.raises(SourceError, match="task_inputs") as error:
        open_source(f"hf:{tmp_path}")
    assert error.value.code == Code.MODEL_INPUTS


def test_eomt_in_the_middle_of_its_training_is_refused(tmp_path: Path) -> None:
    folder = written("eomt", tmp_path / "eomt", weights=True)
    made, config, _ = MADE["eomt"]()
    model = made(config)
    model.attn_mask_probs.fill_(0.5)
    torch.save(model.state_dict(), tmp_path / "a.pth")
    with pytest.raises(SourceError, match="other results each time"):
        open_source(f"hf:{folder}", checkpoint=tmp_path / "a.pth", mode="whole")


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no config\.json"):
        open_source(f"hf:{tmp_path}")
