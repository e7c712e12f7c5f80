"""Logits are resized with torch's numbers, in blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segc.runtime import resize as module
from segc.runtime.resize import ArrayRows, resize, resize_argmax, resize_nearest, resize_threshold, resized_blocks

torch = pytest.importorskip("torch")

SIDES = st.integers(1, 70)


def reference(x: np.ndarray, size: tuple[int, int], align_corners: bool) -> np.ndarray:
    out = torch.nn.functional.interpolate(
        torch.from_numpy(x)[None], size=size, mode="bilinear", align_corners=align_corners
    )
    return out[0].numpy()


def logits(channels: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((channels, height, width)).astype(np.float32)


@settings(max_examples=150, deadline=None)
@given(h=SIDES, w=SIDES, height=SIDES, width=SIDES, align=st.booleans(), block=st.sampled_from([1, 500, 1 << 22]))
def test_any_size_equals_torch(h: int, w: int, height: int, width: int, align: bool, block: int) -> None:
    x = logits(3, h, w, seed=h * w)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_BYTES", block)
        got = resize(x, (height, width), align)
        mask = resize_argmax(x, (height, width), align)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, reference(x, (height, width), align), rtol=0, atol=2e-6)
    np.testing.assert_array_equal(mask, got.argmax(0))


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("size", [(1024, 2048), (777, 1333), (301, 399), (512, 1024), (1, 1), (2, 5000)])
def test_large_maps_equal_torch(size: tuple[int, int], align: bool) -> None:
    """cv2.resize misses this by 2e-4 at 777x1333: torch's float32 coordinates are coarse in the far columns."""
    x = logits(5, 512, 1024)
    expected = reference(x, size, align)
    assert np.abs(resize(x, size, align) - expected).max() <= 1e-6 * np.abs(x).max()
    assert (resize_argmax(x, size, align) == expected.argmax(0)).mean() >= 0.99999


def test_the_lowest_class_wins_ties() -> None:
    x = np.zeros((4, 6, 6), np.float32)
    x[2:] = 1
    mask = resize_argmax(x, (9, 9), False)
    assert mask.dtype == np.uint8 and (mask == 2).all()


def test_beyond_256_classes_masks_are_uint16() -> None:
    x = np.zeros((300, 4, 4), np.float32)
    x[299, :, 2:] = 1
    mask = resize_argmax(x, (8, 8), False)
    assert mask.dtype == np.uint16 and set(np.unique(mask)) == {0, 299}
    assert resize_argmax(x[:256], (8, 8), False).dtype == np.uint8


def test_infinite_logits_are_ordered() -> None:
    x = np.full((3, 1, 1), -np.inf, np.float32)
    assert resize_argmax(x, (1, 1), False) == 0
    x[1] = np.inf
    assert resize_argmax(x, (1, 1), False) == 1


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 1.0])
def test_one_channel_is_compared_with_the_threshold_as_torch_does(threshold: float) -> None:
    x = 20 * logits(1, 40, 50)
    expected = torch.sigmoid(torch.from_numpy(reference(x, (70, 61), False)))[0] > threshold
    assert (resize_threshold(x, (70, 61), False, threshold) == expected.numpy()).mean() >= 0.9999


def test_extreme_logits_of_one_channel_warn_nobody() -> None:
    with np.errstate(all="raise"):
        mask = resize_threshold(np.float32([[[-1e30, 1e30]]]), (1, 2), False, 0.5)
    assert mask.tolist() == [[0, 1]]


def test_a_block_of_rows_is_small_and_asks_for_rows_in_order() -> None:
    asked = []

    class Spy(ArrayRows):
        def rows(self, low: int, high: int) -> np.ndarray:
            asked.append((low, high))
            return super().rows(low, high)

    sizes = [block.nbytes for _, block in resized_blocks(Spy(logits(19, 64, 512)), (2048, 4096), False)]
    assert max(sizes) <= module.BLOCK_BYTES and len(sizes) > 100
    assert asked == sorted(asked)
    assert max(high - low for low, high in asked) <= 4


@given(h=SIDES, w=SIDES, height=SIDES, width=SIDES)
def test_nearest_takes_the_pixel_the_centre_falls_into(h: int, w: int, height: int, width: int) -> None:
    mask = np.arange(h * w, dtype=np.uint16).reshape(h, w)
    got = resize_nearest(mask, (height, width))
    assert got.shape == (height, width) and got.dtype == np.uint16
    y, x = (height - 1) // 2, width - 1
    assert got[y, x] == mask[int((y + 0.5) * h / height), int((x + 0.5) * w / width)]
