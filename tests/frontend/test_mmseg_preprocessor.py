"""What a data preprocessor of one's own does is found by running it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from segc.bundle.preprocessing import Pad, Preprocessing
from segc.frontend.mmseg_env import import_mmseg
from segc.frontend.mmseg_preprocessor import NotPointwise, Pointwise, probe, run
from segc.runtime.preprocessing import preprocess
from tests.helpers.tiny_bundles import photograph

pytest.importorskip("mmseg")
torch = pytest.importorskip("torch")
import_mmseg()

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def own(change: Callable[[Any], Any], **settings: Any) -> Any:
    """mmseg's preprocessor after `change` of every image."""
    from mmseg.models import SegDataPreProcessor

    class Own(SegDataPreProcessor):  # type: ignore[misc]
        def forward(self, data: dict[str, Any], training: bool = False) -> Any:
            return super().forward({**data, "inputs": [change(x.float()) for x in data["inputs"]]}, training)

    return Own(**{"mean": MEAN, "std": STD, **settings})


def described(found: Pointwise) -> Preprocessing:
    return Preprocessing(
        channel_order="RGB" if found.channel_order == "RGB" else "BGR", mean=found.mean, std=found.std, resize=None,
        pad=Pad(size=found.pad_size, divisor=found.pad_divisor, value=found.pad_value, kept=found.pad_kept or None),
        table=found.table,
    )  # fmt: skip


KNOWN: dict[str, tuple[Callable[[Any], Any], dict[str, Any]]] = {
    "scaled first": (lambda x: x / 255, {"rgb_to_bgr": True}),
    "bgr": (lambda x: x / 255, {}),
    "inverted": (lambda x: 255 - x, {}),
    "no normalization": (lambda x: x / 127.5 - 1, {"mean": None, "std": None, "bgr_to_rgb": True}),
    "a curve": (lambda x: (x / 255) ** 2.2, {"bgr_to_rgb": True}),
    "steps": (lambda x: (x > 100).float(), {}),
    "padded to a divisor": (lambda x: x / 255, {"test_cfg": {"size_divisor": 32}, "pad_val": 3}),
    "padded to a size": (lambda x: x / 255, {"test_cfg": {"size": (100, 120)}}),
}


@pytest.mark.parametrize("name", KNOWN)
def test_what_it_does_to_each_pixel_is_found(name: str) -> None:
    change, settings = KNOWN[name]
    preprocessor = own(change, **settings)
    image = photograph(67, 89)
    expected, _ = run(preprocessor, np.ascontiguousarray(image.transpose(2, 0, 1)))
    x, _ = preprocess(image, described(probe(preprocessor, 3, deep=False)))
    np.testing.assert_allclose(x, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_deep_images_are_scaled_too_but_have_no_table() -> None:
    found = probe(own(lambda x: x / 65535), 3, deep=True)
    assert found.mean == pytest.approx([65535 * mean for mean in MEAN], rel=1e-5)
    with pytest.raises(NotPointwise, match="deeper than 8 bits"):
        probe(own(lambda x: x**2), 3, deep=True)
    with pytest.raises(NotPointwise, match="deeper than 8 bits"):
        probe(own(lambda x: x.clamp(max=255)), 3, deep=True)


def test_grey_and_many_bands() -> None:
    assert len(probe(own(lambda x: x / 255, mean=[0.4], std=[0.2]), 1, deep=False).mean) == 1
    spread = probe(own(lambda x: x / 255), 1, deep=False)  # one channel goes into three means
    assert spread.mean == pytest.approx([255 * mean for mean in MEAN], rel=1e-5)
    bands = probe(own(lambda x: x / 255, mean=[0.1] * 5, std=[0.2] * 5), 5, deep=False)
    assert bands.std == pytest.approx([51] * 5, rel=1e-5)


UNKNOWN: dict[str, tuple[Callable[[Any], Any], str]] = {
    "of the whole image": (lambda x: (x - x.mean()) / x.std(), "other pixels"),
    "of neighbours": (lambda x: x + x.roll(1, 2), "other pixels"),
    "of channels": (lambda x: x.mean(0, keepdim=True).expand(3, -1, -1), "other pixels or channels"),
    "constant": (lambda x: x.new_tensor(float("nan")).expand_as(x), "other pixels"),
    "larger": (lambda x: torch.nn.functional.interpolate(x[None], scale_factor=2)[0], "other pixels"),
    "it raises": (lambda x: x.no_such_method(), "AttributeError"),
    "turned round": (lambda x: x[[1, 2, 0]], "other pixels or channels"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_no_function_of_the_pixel_is_refused(name: str) -> None:
    change, said = UNKNOWN[name]
    with pytest.raises(NotPointwise, match=said):
        probe(own(change), 3, deep=False)


def test_mmengines_own_pads_and_does_not_tell() -> None:
    from mmengine.model import ImgDataPreprocessor

    found = probe(ImgDataPreprocessor([1, 2, 3], [4, 5, 6], pad_size_divisor=32, pad_value=2), 3, deep=False)
    assert (found.pad_divisor, found.pad_value, found.pad_kept) == (32, 2.0, True)
    x, kept = preprocess(photograph(33, 65), described(found))
    assert (x.shape, kept) == ((1, 3, 64, 96), (0, 0))
