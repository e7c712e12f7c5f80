"""The sliding window, against mmseg's own formulation of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segc.runtime.slide import SlidingRows, starts


def mmseg_grid(side: int, crop: int, stride: int) -> list[tuple[int, int]]:
    """The indices of EncoderDecoder.slide_inference, mmseg 1.2.2, along one side."""
    grids = max(side - crop + stride - 1, 0) // stride + 1
    found = []
    for index in range(grids):
        end = min(index * stride + crop, side)
        found.append((max(end - crop, 0), end))
    return found


def slow(x: np.ndarray, crop: tuple[int, int], stride: tuple[int, int]) -> np.ndarray:
    sums, counts = np.zeros_like(x[0]), np.zeros(x.shape[2:], np.float32)
    for top, bottom in mmseg_grid(x.shape[2], crop[0], stride[0]):
        for left, right in mmseg_grid(x.shape[3], crop[1], stride[1]):
            sums[:, top:bottom, left:right] += forward(x[:, :, top:bottom, left:right])
            counts[top:bottom, left:right] += 1
    return sums / counts


def forward(patch: np.ndarray) -> np.ndarray:
    """Depends on where in the patch a pixel lies, as a network with zero padding does."""
    h, w = patch.shape[2:]
    return patch[0] * (1 + np.arange(h, dtype=np.float32)[:, None]) + np.arange(w, dtype=np.float32) / 7


@given(side=st.integers(1, 300), crop=st.integers(1, 90), stride=st.integers(1, 90))
def test_patches_start_where_mmsegs_do(side: int, crop: int, stride: int) -> None:
    assert starts(side, crop, stride) == [low for low, _ in mmseg_grid(side, crop, stride)]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 25), st.integers(1, 25), st.data(), st.integers(1, 17))
def test_rows_equal_the_whole_average_bit_for_bit(
    height: int, width: int, crop_h: int, crop_w: int, data: st.DataObject, step: int
) -> None:
    stride = data.draw(st.integers(1, crop_h)), data.draw(st.integers(1, crop_w))
    kept = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    x = np.random.default_rng(0).standard_normal((1, 3, height, width)).astype(np.float32)
    rows = SlidingRows(forward, x, kept, 3, (crop_h, crop_w), stride)
    got = []
    for at in range(0, kept[0], step):
        low = max(at - 1, 0)  # the resize asks for the last row of a block again
        got.append(rows.rows(low, min(at + step, kept[0]))[:, at - low :])
    np.testing.assert_array_equal(
        np.concatenate(got, axis=1), slow(x, (crop_h, crop_w), stride)[:, : kept[0], : kept[1]]
    )


def test_only_a_band_is_held() -> None:
    x = np.zeros((1, 3, 4000, 40), np.float32)
    rows = SlidingRows(lambda patch: patch[0], x, (4000, 40), 3, (40, 40), (20, 20))
    held = []
    for at in range(0, 4000, 10):
        rows.rows(at, at + 10)
        held.append(rows._sums.nbytes)
    assert max(held) <= 3 * 40 * 80 * 4


def test_rows_may_be_skipped_when_the_resize_shrinks() -> None:
    x = np.random.default_rng(0).standard_normal((1, 2, 97, 30)).astype(np.float32)
    rows = SlidingRows(forward, x, (97, 30), 2, (16, 16), (10, 10))
    whole = slow(x, (16, 16), (10, 10))
    for low, high in [(3, 5), (40, 44), (95, 97)]:
        np.testing.assert_allclose(rows.rows(low, high), whole[:, low:high], rtol=1e-6)


def test_a_side_below_the_crop_is_one_patch() -> None:
    assert starts(30, 64, 48) == [0]
    with pytest.raises(ZeroDivisionError):
        starts(30, 64, 0)
