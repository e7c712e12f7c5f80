"""`Engine.segment` against `mmseg.apis.inference_model`, the same network behind both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from segc.bundle.manifest import Manifest
from segc.runtime import windows
from segc.runtime.engine import Engine
from segc.runtime.preprocessing import preprocess
from tests.helpers.tiny_bundles import content, photograph

pytest.importorskip("mmseg")
torch = pytest.importorskip("torch")

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
CLASSES = 7


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """So small a network is slower on more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class TorchSession:
    """mmseg's network as a Session: what a dynamic engine with exact numerics would give."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def run(self, x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return self.model.encode_decode(torch.from_numpy(x), [{"img_shape": x.shape[2:]}]).numpy()


def network(pad: dict[str, int] | None, test_cfg: dict[str, Any], align_corners: bool, binary: bool) -> Any:
    """A small ResNet with an FCN head, random weights from a fixed seed."""
    from segc.frontend.mmseg_env import import_mmseg

    import_mmseg()
    from mmengine import Config
    from mmseg.apis import init_model

    norm = {"type": "BN"}
    model = {
        "type": "EncoderDecoder",
        "data_preprocessor": {
            "type": "SegDataPreProcessor", "mean": MEAN, "std": STD, "bgr_to_rgb": True, "test_cfg": pad,
        },
        "backbone": {
            "type": "ResNetV1c", "depth": 18, "base_channels": 8, "norm_cfg": norm, "norm_eval": False,
            "style": "pytorch", "contract_dilation": True,
        },
        "decode_head": {
            "type": "FCNHead", "in_channels": 64, "channels": 16, "num_convs": 1, "dropout_ratio": 0,
            "num_classes": 2 if binary else CLASSES, "align_corners": align_corners, "norm_cfg": norm,
            **({"out_channels": 1, "threshold": 0.45} if binary else {}),
        },
        "test_cfg": test_cfg,
    }  # fmt: skip
    torch.manual_seed(0)
    pipeline = [{"type": "LoadImageFromFile"}, {"type": "Resize", "scale": (224, 128), "keep_ratio": True}]
    config = Config({"model": model, "test_pipeline": [*pipeline, {"type": "PackSegInputs"}], "default_scope": "mmseg"})
    made = init_model(config, device="cpu")
    with torch.no_grad():  # random heads favour one class everywhere: give each its share of the pixels
        x = torch.from_numpy(photograph(128, 224)).permute(2, 0, 1)[None].float() / 60 - 2
        logits = made.encode_decode(x, [{"img_shape": (128, 224)}])
        mean, std = logits.mean(dim=(0, 2, 3)), logits.std(dim=(0, 2, 3))
        last = made.decode_head.conv_seg
        last.bias.copy_((last.bias - mean) / std)
        last.weight /= std[:, None, None, None]
    return made


def described(pad: dict[str, int] | None, test_cfg: dict[str, Any], align_corners: bool, binary: bool) -> Manifest:
    count = 2 if binary else CLASSES
    threshold = 0.45 if binary else None
    slide = test_cfg["mode"] == "slide"
    return Manifest.from_content(
        content(
            preprocessing={
                "channel_order": "RGB", "mean": MEAN, "std": STD, "resize": {"scale": [224, 128], "keep_ratio": True},
                "pad": {"size": (pad or {}).get("size"), "divisor": (pad or {}).get("size_divisor"), "value": 0},
            },
            output={
                "name": "y", "kind": "logits", "dtype": "float32", "decode": None, "channels": 1 if binary else count,
                "threshold": threshold,
            },
            inference={
                "mode": test_cfg["mode"], "crop": test_cfg["crop_size"] if slide else None,
                "stride": test_cfg["stride"] if slide else None, "align_corners": align_corners,
            },
            classes=[str(i) for i in range(count)],
            palette=[[i, i, i] for i in range(count)],
        )
    )  # fmt: skip


def photographs() -> list[np.ndarray]:
    """Odd sizes; real photographs where scikit-image is installed."""
    images = [photograph(211, 333), photograph(97, 61, seed=1)]
    try:
        from skimage import data
    except ImportError:
        return images
    return [*images, data.chelsea()[:, :449, ::-1], data.coffee()[:399, ::2, ::-1]]


WHOLE: dict[str, Any] = {"mode": "whole"}
SLIDE: dict[str, Any] = {"mode": "slide", "crop_size": (64, 96), "stride": (43, 64)}


@pytest.mark.filterwarnings("ignore:When align_corners=True")
@pytest.mark.parametrize("test_cfg", [WHOLE, SLIDE], ids=["whole", "slide"])
@pytest.mark.parametrize("pad", [None, {"size_divisor": 32}, {"size": (150, 150)}], ids=["plain", "divisor", "size"])
@pytest.mark.parametrize("align_corners", [False, True], ids=["half-pixel", "corners"])
@pytest.mark.parametrize("binary", [False, True], ids=["classes", "binary"])
def test_masks_equal_inference_model(
    test_cfg: dict[str, Any], pad: dict[str, Any] | None, align_corners: bool, binary: bool
) -> None:
    model = network(pad, test_cfg, align_corners, binary)
    from mmseg.apis import inference_model

    engine = Engine(described(pad, test_cfg, align_corners, binary), TorchSession(model))
    seen = set()
    for image in photographs():
        image = np.ascontiguousarray(image)
        expected = inference_model(model, image).pred_sem_seg.data[0].numpy()
        mask = engine.segment(image).mask
        assert mask.shape == image.shape[:2] == expected.shape
        seen |= {*np.unique(expected).tolist()}
        assert (mask == expected).mean() >= 0.9999
    assert len(seen) >= 2  # a model that says one thing everywhere proves nothing


@pytest.mark.parametrize("binary", [False, True], ids=["classes", "binary"])
def test_windows_of_a_picture_equal_slide_inference(binary: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the picture's own resolution, part by part, as pictures larger than memory are segmented."""
    monkeypatch.setattr(windows, "_SUMS_BYTES", 1)
    monkeypatch.setattr(windows, "_GRID_ROWS", 2)
    model = network(None, SLIDE, False, binary)
    engine = Engine(described(None, SLIDE, False, binary), TorchSession(model))
    how = replace(engine.manifest.preprocessing, resize=None)
    for height, width in [(211, 333), (97, 61), (64, 97), (31, 200)]:
        image = photograph(height, width)
        mask = windows.WindowedMask(engine, windows.ArrayPicture(image), windows.windows_of(engine.manifest)).whole()
        metas = [{"img_shape": image.shape[:2], "ori_shape": image.shape[:2]}]
        with torch.no_grad():
            logits = model.slide_inference(torch.from_numpy(preprocess(image, how)[0]), metas)[0]
        expected = logits[0].sigmoid() > 0.45 if binary else logits.argmax(0)
        np.testing.assert_array_equal(mask, expected.numpy())
