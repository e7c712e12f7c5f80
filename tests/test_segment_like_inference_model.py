"""The main job on photographs: a compiled bundle against `mmseg.apis.inference_model`, end to end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import segc

pytest.importorskip("mmseg")

ROOT = Path(__file__).parents[1]
STREET = ROOT / "examples" / "street_scenes"
CHECKPOINT = STREET / "fast_scnn_street.pth"
SLIDE = """
_base_ = {base!r}
model = dict(test_cfg=dict(mode="slide", crop_size=(160, 224), stride=(107, 150)))
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(640, 320), keep_ratio=True),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]
"""


def photographs() -> Iterator[np.ndarray]:
    """Real photographs, cut to odd sizes."""
    yield cv2.imread(str(ROOT / "segc" / "data" / "natural.jpg"))[:299, :451]
    images = pytest.importorskip("sklearn.datasets").load_sample_images().images
    for image in images:
        yield np.ascontiguousarray(image[:401, :, ::-1][:, :613])


def reference_model(config: Path) -> Any:
    """mmseg's own way to a model."""
    from segc.frontend.mmseg_env import import_mmseg

    import_mmseg()
    from mmseg.apis import init_model

    return init_model(str(config), str(CHECKPOINT), device="cpu")


def agreement(engine: segc.Engine, model: Any) -> float:
    """Least share of equal pixels over the photographs."""
    from mmseg.apis import inference_model

    shares = []
    for image in photographs():
        expected = inference_model(model, image).pred_sem_seg.data[0].numpy()
        result = engine.segment(image)
        assert result.mask.shape == image.shape[:2]
        assert result.classes == tuple(model.dataset_meta["classes"])
        shares.append(float((result.mask == expected).mean()))
        assert len(np.unique(expected)) >= 3, "a photograph with one class shows nothing"
    return min(shares)


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_a_dynamic_bundle_gives_the_masks_of_inference_model(target: str, tmp_path: Path) -> None:
    config = STREET / "fast_scnn_street.py"
    segc.compile(config, target=target, checkpoint=CHECKPOINT, dynamic=True, verify=False, out=tmp_path / "b")
    assert agreement(segc.load(tmp_path / "b"), reference_model(config)) >= 0.999


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_a_static_bundle_slides_like_inference_model(target: str, tmp_path: Path) -> None:
    config = tmp_path / "slide.py"
    config.write_text(SLIDE.format(base=str(STREET / "fast_scnn_street.py")))
    bundle = segc.compile(config, target=target, checkpoint=CHECKPOINT, verify=False, out=tmp_path / "b")
    assert bundle.manifest.input.shape == (1, 3, 160, 224)
    assert agreement(segc.load(tmp_path / "b"), reference_model(config)) >= 0.999


def test_a_static_bundle_follows_the_pipeline_when_the_sizes_meet(tmp_path: Path) -> None:
    """A photograph that the test pipeline brings to the engine's size is segmented as mmseg does."""
    config = STREET / "fast_scnn_street.py"
    image = np.ascontiguousarray(cv2.resize(next(photographs()), (1011, 507)))
    height, width = 256, int(1011 * 256 / 507 + 0.5)  # scale (512, 256), ratio kept
    segc.compile(config, checkpoint=CHECKPOINT, shape=(height, width), verify=False, out=tmp_path / "b")
    from mmseg.apis import inference_model

    expected = inference_model(reference_model(config), image).pred_sem_seg.data[0].numpy()
    assert float((segc.load(tmp_path / "b").segment(image).mask == expected).mean()) >= 0.999
