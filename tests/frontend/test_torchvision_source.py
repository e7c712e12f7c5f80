"""`torchvision:NAME`: built without downloads, weights from a file, `segment(file)` as torchvision's transforms do."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import segc
from segc.bundle.preprocessing import PillowResize
from segc.errors import CheckpointError, Code, SegcError, SourceError
from segc.frontend import torchvision_import
from segc.frontend.source import open_source
from segc.runtime.transforms import apply

torchvision_import.prepare()
models = pytest.importorskip("torchvision.models")
NAME = "lraspp_mobilenet_v3_large"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> segc.Bundle:
    folder = tmp_path_factory.mktemp("torchvision")
    torch.manual_seed(1)
    model = models.get_model(NAME, weights=None, weights_backbone=None, num_classes=5)
    torch.save(model.state_dict(), folder / "weights.pth")
    return segc.compile(
        f"torchvision:{NAME}", checkpoint=folder / "weights.pth", shape=(64, 96), out=folder / "bundle"
    )  # fmt: skip


def test_segment_equals_torchvisions_transforms_and_model(bundle: segc.Bundle) -> None:
    (case,) = bundle.report["files"]
    assert case["size"] == [107, 161]
    assert case["tensor_error"] < 1e-5
    assert case["equal"] >= 0.999


def test_classes_are_those_of_the_checkpoint(bundle: segc.Bundle) -> None:
    assert bundle.manifest.output.channels == 5
    assert bundle.manifest.source.weights == "checkpoint"
    assert bundle.manifest.source.kind == "torchvision"


def test_the_bundle_can_be_verified_without_naming_the_source(bundle: segc.Bundle) -> None:
    with pytest.raises(SegcError, match="checkpoint is not the one"):
        segc.verify(bundle.path)
    assert segc.verify(bundle.path, checkpoint=bundle.path.parent / "weights.pth").cases


@pytest.mark.parametrize("size", [(107, 161), (161, 107), (64, 64), (33, 200)])
def test_shorter_sides_are_resized_as_torchvision_does(size: tuple[int, int]) -> None:
    from PIL import Image
    from torchvision.transforms import functional

    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    want = np.asarray(functional.resize(Image.fromarray(image), [48], antialias=True))
    np.testing.assert_array_equal(apply(image, (PillowResize(shortest=48),)), want)


def test_a_picture_of_any_size_enters_as_torchvision_prepares_it(tmp_path: Path) -> None:
    source = open_source(f"torchvision:{NAME}")
    assert source.on_files is not None
    assert source.info.shape == (520, 520)
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((30, 45, 3), np.uint8))
    x = source.on_files.tensor(tmp_path / "a.png", None)
    assert x is not None
    assert x.shape == (1, 3, 520, 780)


def test_an_unknown_name_is_refused_with_the_close_ones() -> None:
    with pytest.raises(SourceError, match=r"(?s)fcn_resnet5'.*did you mean fcn_resnet50") as error:
        open_source("torchvision:fcn_resnet5")
    assert error.value.code == Code.UNKNOWN_SOURCE


def test_other_channels_are_refused() -> None:
    with pytest.raises(SourceError, match="takes 3 channels, not 4"):
        open_source(f"torchvision:{NAME}", channels=4)


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="does not fit"):
        open_source(f"torchvision:{NAME}", checkpoint=tmp_path / "a.pth")


def test_compiled_operators_that_are_not_there_say_so() -> None:
    from torchvision.extension import _has_ops
    from torchvision.ops import nms

    if _has_ops():
        assert nms(torch.zeros(1, 4), torch.ones(1), 0.5).tolist() == [0]
    else:
        with pytest.raises((RuntimeError, NotImplementedError)):
            nms(torch.zeros(1, 4), torch.ones(1), 0.5)
