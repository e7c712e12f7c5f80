"""`smp:ARCH[/ENCODER]` and `smp:FOLDER`: no downloads, `segment(file)` as smp's preprocessing and model do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import segc
from segc.errors import Code, SourceError
from segc.frontend import torchvision_import
from segc.frontend.offline import offline
from segc.frontend.source import open_source

torchvision_import.prepare()
smp = pytest.importorskip("segmentation_models_pytorch")
SMALL = {"encoder_depth": 3, "decoder_channels": (16, 8, 8)}
TINY = "smp:linknet/tu-mobilenetv3_small_100"


def model(**settings: Any) -> Any:
    torch.manual_seed(1)
    with offline():
        return smp.Unet("resnet18", encoder_weights=None, **SMALL, **settings).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    saved = tmp_path_factory.mktemp("smp") / "saved"
    with offline():
        model(classes=4).save_pretrained(str(saved))
    return saved


@pytest.fixture(scope="module")
def bundle(folder: Path) -> segc.Bundle:
    return segc.compile(f"smp:{folder}", shape=(64, 96), out=folder.parent / "bundle")


def test_segment_equals_smps_preprocessing_and_model(bundle: segc.Bundle) -> None:
    (case,) = bundle.report["files"]
    assert case["size"] == [107, 161]
    assert case["tensor_error"] < 1e-5
    assert case["equal"] >= 0.999


def test_masks_of_logits_that_nothing_resizes_equal_smps_too(folder: Path, tmp_path: Path) -> None:
    made = segc.compile(f"smp:{folder}", shape=(64, 96), output="mask", out=tmp_path / "masks")
    assert made.manifest.output.decode is not None and not made.manifest.output.decode.resize
    (case,) = made.report["files"]
    assert case["equal"] >= 0.999


def test_weights_of_a_folder_are_safetensors(bundle: segc.Bundle, folder: Path) -> None:
    assert (folder / "model.safetensors").is_file()
    assert bundle.manifest.source.weights == "checkpoint"
    assert bundle.manifest.source.checkpoint is not None
    assert bundle.manifest.source.checkpoint.name == "model.safetensors"
    assert bundle.manifest.output.channels == 4


def test_preprocessing_that_is_not_on_the_machine_is_said(bundle: segc.Bundle) -> None:
    said = [note for note in bundle.report["notes"] if "ImageNet's mean and std" in note]
    assert bool(said) == (bundle.manifest.preprocessing.mean == (123.675, 116.28, 103.53))


def test_timms_encoders_have_their_own_preprocessing() -> None:
    source = open_source(TINY)
    assert source.info.name == TINY
    assert not [note for note in source.notes if "ImageNet" in note]
    assert source.info.mean == pytest.approx((123.675, 116.28, 103.53))


def test_a_checkpoint_says_classes_and_channels(tmp_path: Path) -> None:
    torch.manual_seed(0)
    with offline():
        made = smp.create_model("linknet", "tu-mobilenetv3_small_100", encoder_weights=None, in_channels=5, classes=3)
    torch.save({"state_dict": made.state_dict()}, tmp_path / "a.pth")
    source = open_source(TINY, checkpoint=tmp_path / "a.pth")
    assert (source.info.in_channels, source.info.channels) == (5, 3)
    x = torch.rand(1, 5, 64, 64)
    assert source.module is not None
    with torch.no_grad():
        np.testing.assert_array_equal(source.module(x).numpy(), made.eval()(x).numpy())


def test_half_precision_weights_are_widened_and_said(folder: Path, tmp_path: Path) -> None:
    half = model(classes=4).half().state_dict()
    torch.save(half, tmp_path / "half.pth")
    source = open_source(f"smp:{folder}", checkpoint=tmp_path / "half.pth")
    assert any("float16" in note and "float32" in note for note in source.notes)
    assert source.module is not None
    assert {p.dtype for p in source.module.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("smp:unett", "no architecture 'unett'"),
        ("smp:unet/resnet19", "no encoder 'resnet19'"),
        ("smp:unet/tu-nothing_of_timm", "no encoder 'tu-nothing_of_timm'"),
    ],
)
def test_unknown_names_are_refused(name: str, said: str) -> None:
    with pytest.raises(SourceError, match=said) as error:
        open_source(name)
    assert error.value.code == Code.UNKNOWN_SOURCE


def test_an_encoder_that_does_not_fit_is_refused_by_name() -> None:
    with pytest.raises(SourceError, match="cannot build unetplusplus on mit_b0"):
        open_source("smp:unetplusplus/mit_b0")


def test_another_preprocessing_that_is_not_on_the_machine_is_refused() -> None:
    with pytest.raises(SourceError, match="preprocessing of the encoder dpn68") as error:
        open_source("smp:fpn/dpn68")
    assert error.value.code == Code.NOT_LOCAL


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "segformer"}))
    with pytest.raises(SourceError, match="holds no model of segmentation-models-pytorch"):
        open_source(f"smp:{tmp_path}")


def test_what_the_user_says_about_images_is_not_compared(folder: Path) -> None:
    from segc.frontend.given import Given

    source = open_source(f"smp:{folder}", given=Given(mean=(1.0, 2.0, 3.0)))
    assert source.on_files is None
    assert any("--mean" in note and "not compared" in note for note in source.notes)
    assert source.info.mean == (1.0, 2.0, 3.0)
