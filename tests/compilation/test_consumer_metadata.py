"""Other programs read classes and preprocessing from emitted files, and get the masks of `segment`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import segc
from tests.helpers.tiny_bundles import photograph
from tests.helpers.tiny_models import CONV, DYNAMIC_CONV, onnx_file

pytest.importorskip("model_api")

from model_api.models import SegmentationModel

CLASSES = ["wet street", "sky"]
NUMBERS: dict[str, dict[str, Any]] = {
    "ImageNet, RGB": {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375], "channel_order": "RGB"},
    "0 to 1, BGR": {"mean": [0.41, 0.52, 0.63], "std": [0.25], "scale": 1 / 255, "channel_order": "BGR"},
    "bytes": {"channel_order": "BGR"},
}
ENGINES = {"openvino": "model.xml", "onnxruntime": "model.onnx"}


@pytest.mark.parametrize(
    ("numbers", "size"), [*((name, (8, 12)) for name in NUMBERS), ("ImageNet, RGB", (31, 45))], ids=str
)
@pytest.mark.parametrize("target", ENGINES)
def test_model_api_finds_the_masks_of_segment(tmp_path: Path, target: str, numbers: str, size: tuple[int, int]) -> None:
    dynamic = size != (8, 12)
    source = onnx_file(tmp_path, DYNAMIC_CONV if dynamic else CONV)
    made = segc.compile(source, target=target, dynamic=dynamic, out=tmp_path / "b", classes=CLASSES, **NUMBERS[numbers])
    image = photograph(*size)
    model = SegmentationModel.create_model(str(made.path / ENGINES[target]), device="CPU")
    assert model.params.labels == [name.replace(" ", "_") for name in CLASSES]
    found = model(image).resultImage
    np.testing.assert_array_equal(found, segc.load(made.path, threads=1).segment(image).mask)
    assert 0 < found.mean() < 1, "both classes"


@pytest.mark.parametrize("target", ENGINES)
def test_files_for_masks_name_their_classes_too(tmp_path: Path, target: str) -> None:
    """ModelAPI 0.4 itself fails on outputs of shape (N, H, W), but reads the file."""
    made = segc.compile(onnx_file(tmp_path), target=target, output="mask", out=tmp_path / "b", classes=CLASSES)
    model = SegmentationModel.create_model(str(made.path / ENGINES[target]), device="CPU", preload=False)
    assert (model.params.labels, model.params.mean_values) == (["wet_street", "sky"], [0.0, 0.0, 0.0])
