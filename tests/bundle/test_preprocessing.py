"""What the preprocessing in segc.json says of itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from segc.bundle.preprocessing import CenterCrop, Gamma, PadStep, PillowResize, ResizeStep, Step, at_size, usual_loader
from segc.errors import BundleError
from segc.runtime.transforms import apply, pillow_size
from tests.helpers.tiny_bundles import manifest

GAMMA = {"step": "gamma", "gamma": 1.2}
MULTIPLE = {"step": "resize to multiple", "divisor": 32, "interpolation": "bilinear"}


@pytest.mark.parametrize(("changes", "plain"), [
    ({}, True),
    ({"preprocessing__resize": {"scale": [8, 8], "keep_ratio": True}}, True),
    ({"preprocessing__steps": [MULTIPLE]}, True),
    ({"preprocessing__steps": [MULTIPLE, GAMMA]}, False),
    ({"preprocessing__table": [[float(v) for v in range(256)]] * 3}, False),
    ({"preprocessing__loader": {"color": "color_ignore_orientation", "decoder": "cv2", "float32": False}}, True),
    ({"preprocessing__loader": {"color": "unchanged", "decoder": "cv2", "float32": False}}, False),
])  # fmt: skip
def test_only_sizes_mean_and_std_are_plain(changes: dict[str, Any], plain: bool) -> None:
    assert manifest(**changes).preprocessing.is_plain is plain


def test_an_engine_of_one_size_gets_it_where_sizes_were_first_changed() -> None:
    gamma, to = Gamma(gamma=1.2), ResizeStep(scale=(48, 32))
    crop, pad = CenterCrop(size=(9, 9)), PadStep(size=(9, 9))
    chains: list[tuple[tuple[Step, ...], tuple[Step, ...]]] = [
        ((), (to,)), ((gamma,), (gamma, to)), ((crop, gamma, pad), (to, gamma)),
        ((gamma, pad, gamma), (gamma, to, gamma)),
    ]  # fmt: skip
    for chain, expected in chains:
        assert at_size(chain, (32, 48)) == expected


def test_files_are_decoded_by_the_number_of_channels() -> None:
    found = {count: usual_loader(count) for count in (1, 2, 3, 4, 9)}
    assert found[3] is None
    assert [loader.decoder for count, loader in found.items() if loader and count != 3] == [
        "cv2", "tifffile", "cv2", "tifffile",
    ]  # fmt: skip
    assert found[1] is not None and found[1].color == "grayscale"


@pytest.mark.parametrize("changes", [
    {"preprocessing__steps": [{"step": "sharpen"}]},
    {"preprocessing__steps": [{**GAMMA, "gamma": 0}]},
    {"preprocessing__steps": [GAMMA], "preprocessing__resize": {"scale": [8, 8], "keep_ratio": True}},
    {"preprocessing__table": [[0.0] * 255] * 3},
    {"preprocessing__table": [[0.0] * 256] * 2},
    {"preprocessing__loader": {"color": "colour", "decoder": "cv2", "float32": False}},
    {"preprocessing__steps": [{"step": "own", "module": "a b", "name": "C", "settings": {}}]},
    {"preprocessing__steps": [
        {"step": "resize", "scale": None, "factor": None, "keep_ratio": True, "interpolation": "bilinear",
         "backend": "cv2"},
    ]},
])  # fmt: skip
def test_what_no_step_is_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(BundleError):
        manifest(**changes)


@pytest.mark.parametrize(
    ("step", "size", "wanted"),
    [
        (PillowResize(scale=(64, 32)), (107, 161), (32, 64)),
        (PillowResize(shortest=48), (107, 161), (48, 72)),
        (PillowResize(shortest=48), (161, 107), (72, 48)),
        (PillowResize(shortest=48, longest=60), (107, 161), (40, 60)),
        (PillowResize(shortest=48, longest=60, multiple=32), (107, 161), (64, 64)),
        (PillowResize(shortest=107), (107, 161), (107, 161)),
        (PillowResize(scale=(96, 96), keep_ratio=True, multiple=32), (107, 161), (96, 160)),
    ],
)
def test_sizes_are_rounded_as_torchvision_and_transformers_do(
    step: PillowResize, size: tuple[int, int], wanted: tuple[int, int]
) -> None:
    assert pillow_size(size, step) == wanted
    assert apply(np.zeros((*size, 3), np.uint8), (step,)).shape[:2] == wanted


def test_a_fixed_size_is_reached_by_pillow_where_the_source_resizes_so() -> None:
    (made,) = at_size((PillowResize(shortest=48, interpolation="bicubic"), CenterCrop(size=(9, 9))), (10, 20))
    assert made == PillowResize(scale=(20, 10), interpolation="bicubic")


def test_margins_of_a_crop_are_rounded_down_or_to_even() -> None:
    image = np.arange(8)[:, None] * np.ones((1, 5), int)
    assert apply(image, (CenterCrop(size=(5, 5)),))[0, 0] == 2
    assert apply(image, (CenterCrop(size=(5, 5), floor=True),))[0, 0] == 1
