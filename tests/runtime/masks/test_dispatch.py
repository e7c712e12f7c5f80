"""Masks equal torch's interpolate and argmax: compiled and in NumPy, one resize or two."""

from __future__ import annotations

import threading
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segc.runtime import resize
from segc.runtime.masks import dispatch
from segc.runtime.masks.dispatch import Axis, axis, composed, resize_argmax, resize_threshold
from segc.runtime.resize import ArrayRows

torch = pytest.importorskip("torch")

SIDES = st.integers(1, 40)
SIZES = st.integers(1, 90)
# of pixels that may differ: torch itself rounds equal logits differently, by where they lie in memory
SHARE = {"noise": 1e-3, "ties": 1.0, "steps": 1.0, "special": 1e-3, "constant": 1.0}
KINDS = sorted(SHARE)


@pytest.fixture(params=["compiled", "numpy"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "numpy":
        monkeypatch.setattr(dispatch, "compiled", lambda: None)
    else:
        pytest.importorskip("numba")
        monkeypatch.setattr(dispatch, "_WORK_PER_THREAD", 1)  # or the small maps here would have one thread
        assert dispatch.compiled() is not None
    return str(request.param)


def interpolated(x: np.ndarray, size: tuple[int, int], align: bool) -> np.ndarray:
    """torch's F.interpolate; a side that keeps its size is left alone."""
    y = torch.from_numpy(x)
    if y.shape[2] == size[1] and y.shape[1] != size[0]:
        return interpolated(np.ascontiguousarray(x.transpose(0, 2, 1)), size[::-1], align).transpose(0, 2, 1)
    if tuple(y.shape[1:]) == size:
        return x
    if y.shape[1] == size[0]:
        return torch.nn.functional.interpolate(y, size=size[1], mode="linear", align_corners=align).numpy()
    return torch.nn.functional.interpolate(y[None], size=size, mode="bilinear", align_corners=align)[0].numpy()


def logits(kind: str, channels: int, height: int, width: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((channels, height, width)).astype(np.float32)
    if kind == "ties":
        return np.round(2 * x) / 2
    if kind == "steps":
        return np.sign(x) * np.float32(1e30)
    if kind == "constant":
        return np.full_like(x, x.flat[0])
    if kind == "special":
        drawn = rng.random(x.shape)
        for value, share in ((np.inf, 0.02), (-np.inf, 0.05), (np.nan, 0.01)):
            x[drawn < share] = value
            drawn = rng.random(x.shape)
    return x


def assert_near(got: np.ndarray, large: np.ndarray, x: np.ndarray, share: float = 0.0, ulp: int = 4) -> None:
    """`got` is the argmax of `large`, but for ties on at most `share` of the pixels.

    A tie: apart by at most `ulp` units in the last place of the largest finite number in `x`, which was interpolated.
    """
    unit = np.spacing(np.abs(x[np.isfinite(x)]).max(initial=0))
    expected = large.argmax(0)
    assert got.shape == expected.shape
    off = np.argwhere(got != expected)
    assert len(off) <= max(share * got.size, 1 if share else 0)
    for y, x in off:
        apart = large[expected[y, x], y, x] - large[got[y, x], y, x]
        assert apart <= ulp * unit, (y, x, apart)


@settings(max_examples=120, deadline=None)
@given(
    c=st.integers(2, 9), h=SIDES, w=SIDES, height=SIZES, width=SIZES, align=st.booleans(), kind=st.sampled_from(KINDS),
    seed=st.integers(0, 9),
)  # fmt: skip
def test_any_size_and_any_logits_equal_torch(
    c: int, h: int, w: int, height: int, width: int, align: bool, kind: str, seed: int
) -> None:
    x = logits(kind, c, h, w, seed)
    large = interpolated(x, (height, width), align)
    assert_near(resize_argmax(x, (height, width), align, threads=2), large, x, share=SHARE[kind])


@pytest.mark.parametrize("channels", [2, 19, 150])
@pytest.mark.parametrize(("side", "size"), [((32, 64), (256, 512)), ((33, 41), (131, 167)), ((1, 40), (1, 333))])
@pytest.mark.parametrize("align", [False, True])
def test_large_maps_equal_torch(channels: int, side: tuple[int, int], size: tuple[int, int], align: bool) -> None:
    smooth = interpolated(logits("noise", channels, 5, 7, 1), side, False) + 0.1 * logits("noise", channels, *side, 2)
    for x in (smooth.astype(np.float32), logits("noise", channels, *side, 3)):
        assert_near(resize_argmax(x, size, align), interpolated(x, size, align), x, share=1e-5)


def test_one_class_is_class_0_everywhere() -> None:
    assert not resize_argmax(logits("noise", 1, 4, 5, 0), (16, 15), False).any()


def test_of_equal_classes_the_lowest_wins() -> None:
    x = np.zeros((4, 6, 6), np.float32)
    x[2:] = 1
    assert (resize_argmax(x, (9, 9), False) == 2).all()
    x[2, 3] = 2  # a mixed neighbourhood, in which 2 and 3 tie elsewhere
    assert set(np.unique(resize_argmax(x, (13, 13), False))) == {2}


def test_where_rounding_makes_a_tie_the_larger_class_or_the_lower_wins(way: str) -> None:
    """Class 1 is above class 0 at every corner by one unit in the last place; torch calls many pixels a tie."""
    x = np.stack([logits("noise", 1, 8, 8, 0)[0]] * 2)
    x[1] = np.nextafter(x[1], np.float32(np.inf))
    got, large = resize_argmax(x, (37, 41), False), interpolated(x, (37, 41), False)
    tied = large[0] == large[1]
    assert tied.mean() > 0.05, "nothing to see here"
    assert_near(got, large, x, share=1, ulp=1)
    assert (got == 1).all() or way == "numpy"


def test_the_first_nan_wins_and_infinity_times_nothing_is_nan_as_in_torch() -> None:
    x = logits("noise", 5, 6, 7, 0)
    x[3, 2, 2], x[1, 2, 3], x[4, 4, 4], x[2, 5, 6] = np.nan, np.nan, np.inf, -np.inf
    for size in ((12, 14), (6, 7), (11, 13), (3, 3)):
        np.testing.assert_array_equal(resize_argmax(x, size, False), interpolated(x, size, False).argmax(0))


def test_beyond_256_classes_masks_are_uint16() -> None:
    x = np.zeros((300, 4, 4), np.float32)
    x[299, :, 2:] = 1
    mask = resize_argmax(x, (8, 8), False)
    assert mask.dtype == np.uint16 and set(np.unique(mask)) == {0, 299}


class Growing:
    """Rows that are made when asked for and forgotten, as a sliding window gives them."""

    def __init__(self, x: np.ndarray) -> None:
        self.x, self.asked = x, 0
        self.channels, self.height, self.width = x.shape

    def rows(self, low: int, high: int) -> np.ndarray:
        assert low >= self.asked
        self.asked = low
        return self.x[:, low:high]


@pytest.mark.parametrize("size", [(200, 90), (31, 17), (64, 48)])
def test_rows_that_come_one_after_the_other_give_the_same(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "_BAND_BYTES", 4 * 5 * 48 * 7)
    x = logits("noise", 5, 64, 48, 0)
    np.testing.assert_array_equal(resize_argmax(Growing(x), size, False), resize_argmax(x, size, False))


@settings(max_examples=60, deadline=None)
@given(
    h=st.integers(1, 20), w=st.integers(1, 20), size=st.tuples(st.integers(20, 60), st.integers(20, 60)),
    cut=st.integers(0, 9), out=st.tuples(SIZES, SIZES), align=st.booleans(), kind=st.sampled_from(KINDS),
)  # fmt: skip
def test_two_resizes_are_done_as_mmseg_does_them(
    h: int, w: int, size: tuple[int, int], cut: int, out: tuple[int, int], align: bool, kind: str
) -> None:
    x = logits(kind, 4, h, w, h * w)
    kept = size[0] - cut, size[1] - cut // 2
    large = interpolated(interpolated(x, size, align)[:, : kept[0], : kept[1]], out, align)
    assert_near(resize_argmax(x, out, align, via=(size, kept)), large, x, share=max(SHARE[kind], 1e-3))


def test_two_upward_resizes_are_one_of_three_taps() -> None:
    both = composed(axis(16, 64, False), axis(64, 100, False))
    assert len(both.weight) == 3 and both.out == 100
    np.testing.assert_allclose(np.sum(both.weight, axis=0), 1, atol=1e-6)
    matrix = np.zeros((100, 16))
    first = matrix_of(axis(16, 64, False))
    np.testing.assert_allclose(matrix_of(both), matrix_of(axis(64, 100, False)) @ first, atol=1e-7)
    assert matrix.shape == matrix_of(both).shape


def matrix_of(given: Axis) -> np.ndarray:
    matrix = np.zeros((given.out, given.side))
    for k, weight in enumerate(given.weight):
        np.add.at(matrix, (np.arange(given.out), np.minimum(given.low + k, given.side - 1)), weight)
    return matrix


@pytest.mark.parametrize("threshold", [-1.0, 0.0, 0.3, 0.5, 0.999999, 1.0])
@pytest.mark.parametrize("kind", ["noise", "special"])
def test_one_channel_is_compared_with_the_threshold_as_torch_does(threshold: float, kind: str) -> None:
    x = 8 * logits(kind, 1, 20, 30, 0)
    expected = torch.sigmoid(torch.from_numpy(interpolated(x, (70, 61), False)))[0] > threshold
    mask = resize_threshold(x, (70, 61), False, threshold, threads=2)
    assert mask.dtype == np.uint8 and set(np.unique(mask)) <= {0, 1}
    assert (mask == expected.numpy()).mean() >= 0.999
    if 0 < threshold < 1:
        twice = interpolated(interpolated(x, (40, 60), False), (70, 61), False)
        expected = torch.sigmoid(torch.from_numpy(twice))[0] > threshold
        got = resize_threshold(x, (70, 61), False, threshold, via=((40, 60), (40, 60)))
        assert kind == "special" or (got == expected.numpy()).mean() >= 0.999


def test_memory_stays_below_mask_and_twice_the_logits(way: str) -> None:
    x = logits("noise", 150, 64, 64, 0)
    resize_argmax(x, (64, 64), False)  # compiles
    tracemalloc.start()
    try:
        mask = resize_argmax(x, (512, 512), False, threads=2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    allowed = mask.nbytes + 2 * x.nbytes if way == "compiled" else 8 * resize.BLOCK_BYTES
    assert peak <= allowed < 4 * 150 * 512 * 512


def test_several_threads_at_once_do_not_disturb_each_other() -> None:
    x = [logits("noise", 7, 20, 20, seed) for seed in range(4)]
    expected = [resize_argmax(one, (80, 80), False, threads=1) for one in x]
    got: dict[int, np.ndarray] = {}
    workers = [
        threading.Thread(
            target=lambda at: got.update({at: resize_argmax(x[at], (80, 80), False, threads=3)}), args=(k,)
        )
        for k in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for at, mask in enumerate(expected):
        np.testing.assert_array_equal(got[at], mask)


def test_an_error_in_a_thread_reaches_the_caller() -> None:
    def work(begin: int, end: int) -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        dispatch._split_among_threads(3, np.arange(90), 0, 90, work)


def test_every_row_is_done_once_whatever_the_threads() -> None:
    for threads in (1, 2, 5):
        for low in (np.arange(40), np.arange(40) // 16, np.zeros(40, np.int64)):
            done: list[int] = []
            dispatch._split_among_threads(threads, low, 3, 40, lambda a, b: done.extend(range(a, b)))  # noqa: B023
            assert sorted(done) == list(range(3, 40))


def test_a_row_source_of_an_array_is_not_copied() -> None:
    x = logits("noise", 3, 8, 8, 0)
    np.testing.assert_array_equal(resize_argmax(ArrayRows(x), (16, 16), False), resize_argmax(x, (16, 16), False))
