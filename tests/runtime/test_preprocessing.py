"""Preprocessing equals mmseg's own pipeline bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from segc.bundle.preprocessing import Pad, Preprocessing
from segc.runtime.preprocessing import padding, preprocess
from segc.runtime.transforms import resized_size
from tests.helpers.tiny_bundles import manifest, photograph

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def described(**changes: Any) -> Preprocessing:
    return manifest(preprocessing={**manifest().to_json()["preprocessing"], **changes}).preprocessing


def mmseg_tensor(image: np.ndarray, resize: dict[str, Any] | None, pre: dict[str, Any]) -> tuple[np.ndarray, list[int]]:
    """What `inference_model` feeds the network, made by mmseg itself."""
    pytest.importorskip("mmseg")
    from segc.frontend.mmseg_env import import_mmseg

    import_mmseg()
    from mmengine.dataset import Compose
    from mmseg.models import SegDataPreProcessor

    steps = [{"type": "LoadImageFromNDArray"}, *([{"type": "Resize", **resize}] if resize else [])]
    sample = Compose([*steps, {"type": "PackSegInputs"}])({"img": image})
    batch = {"inputs": [sample["inputs"]], "data_samples": [sample["data_samples"]]}
    made = SegDataPreProcessor(**pre)(batch)
    return made["inputs"].numpy(), made["data_samples"][0].metainfo.get("img_padding_size", [0, 0, 0, 0])


@pytest.mark.parametrize("size", [(61, 83), (83, 61), (33, 257), (1, 1), (1, 7), (128, 64)])
@pytest.mark.parametrize(
    ("scale", "keep_ratio"),
    [(None, False), ((128, 64), True), ((97, 97), True), ((101, 67), False), ((2048, 512), True)],
)
@pytest.mark.parametrize(
    ("pad", "test_cfg"),
    [
        ({}, None),
        ({"divisor": 32}, {"size_divisor": 32}),
        ({"divisor": 1}, {"size_divisor": 1}),
        ({"size": [100, 90], "value": 3.5}, {"size": (100, 90)}),
    ],
)
@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_the_tensor_is_mmsegs_bit_for_bit(
    size: tuple[int, int],
    scale: tuple[int, int] | None,
    keep_ratio: bool,
    pad: dict[str, Any],
    test_cfg: dict[str, Any] | None,
    order: str,
) -> None:
    image = photograph(*size)
    resize = {"scale": scale, "keep_ratio": keep_ratio} if scale else None
    expected, padded = mmseg_tensor(
        image,
        resize,
        {"mean": MEAN, "std": STD, "bgr_to_rgb": order == "RGB", "test_cfg": test_cfg, "pad_val": pad.get("value", 0)},
    )
    how = described(
        channel_order=order, mean=MEAN, std=STD, resize=resize, pad={"size": None, "divisor": None, "value": 0, **pad}
    )
    x, (bottom, right) = preprocess(image, how)
    assert x.dtype == np.float32 and x.flags.c_contiguous
    np.testing.assert_array_equal(x, expected)
    assert [0, right, 0, bottom] == list(padded)


def test_whole_numbers_and_no_normalization_are_mmsegs_too() -> None:
    image = photograph(45, 31)
    for pre, mean, std in [
        ({"mean": [123, 117, 104], "std": [58, 57, 57]}, (123, 117, 104), (58, 57, 57)),
        ({}, (0, 0, 0), (1, 1, 1)),
    ]:
        expected, _ = mmseg_tensor(image, None, {"bgr_to_rgb": True, **pre})
        np.testing.assert_array_equal(preprocess(image, described(mean=mean, std=std))[0], expected)


def test_a_side_that_rounds_to_nothing_is_one_pixel() -> None:
    """OpenCV is asked for a height of 0 by mmcv, and fails."""
    assert resized_size((1, 9000), (2048, 1024), keep_ratio=True) == (1, 2048)
    assert resized_size((9000, 1), (2048, 1024), keep_ratio=True) == (2048, 1)
    x, _ = preprocess(photograph(1, 9000), described(resize={"scale": [2048, 1024], "keep_ratio": True}))
    assert x.shape == (1, 3, 1, 2048)


def test_a_larger_image_than_the_pad_size_is_not_cut() -> None:
    assert padding((50, 70), Pad(size=(64, 64))) == (14, 0)
    assert padding((64, 65), Pad(divisor=32)) == (0, 31)
    assert padding((64, 65), Pad()) == (0, 0)


def test_the_image_is_not_changed() -> None:
    image = photograph(20, 30)
    before = image.copy()
    preprocess(image, described(mean=MEAN, std=STD))
    np.testing.assert_array_equal(image, before)
