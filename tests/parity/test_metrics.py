"""The gate's arithmetic, on numbers small enough to check by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segc.errors import ParityError
from segc.parity import metrics, sample_inputs
from segc.parity.limits import Limits
from segc.parity.metrics import compare

LOGITS = np.array([[[[3.0, 1.0], [2.0, 5.0]], [[1.0, 2.0], [2.0, 4.0]]]], np.float32)  # classes 0 1 / 0 (tie) 0


def test_equal_logits_are_perfect() -> None:
    case = compare("c", LOGITS, LOGITS.copy(), None)
    assert (case.max_abs_error, case.relative_error, case.agreement, case.miou, case.boundary_agreement) == (
        0,
        0,
        1,
        1,
        1,
    )
    assert (case.differing_pixels, case.margin_ratio, case.shape) == (0, None, (1, 2, 2, 2))
    assert case.failures(Limits(0, 1)) == []


def test_errors_are_relative_to_the_largest_logit() -> None:
    other = LOGITS.copy()
    other[0, 0, 0, 0] += 0.5
    case = compare("c", LOGITS, other, None)
    assert (case.max_abs_error, case.relative_error, case.differing_pixels) == (0.5, 0.1, 0)


def test_a_flipped_pixel_lowers_agreement_and_miou_and_shows_its_margin() -> None:
    other = LOGITS.copy()
    other[0, :, 0, 1] = [2.0, 1.0]  # class 1 becomes 0; margin 1, error 1
    case = compare("c", LOGITS, other, None)
    assert (case.agreement, case.differing_pixels, case.margin_ratio) == (0.75, 1, 1.0)
    assert case.miou == pytest.approx((3 / 4 + 0) / 2)
    failures = case.failures(Limits(1e-3, 0.999))
    assert len(failures) == 2
    assert "c: relative logit error 2.00e-01, limit 1e-03" in failures[0]
    assert "c: 75.0000% of pixels equal, limit 99.90%" in failures[1]


def test_a_mask_is_compared_as_a_mask() -> None:
    mask = np.array([[[0, 1], [0, 1]]], np.uint8)
    case = compare("c", LOGITS, mask, None)
    assert (case.max_abs_error, case.relative_error, case.agreement, case.margin_ratio) == (None, None, 0.75, None)


def test_not_a_number_fails_every_limit() -> None:
    other = LOGITS.copy()
    other[0, 0, 0, 0] = np.nan
    case = compare("c", LOGITS, other, None)
    assert case.relative_error == math.inf
    assert case.failures(Limits(1e9, 0))


@pytest.mark.parametrize("shape", [(1, 2, 2, 3), (2, 2, 2, 2), (1, 3, 3)])
def test_another_shape_is_an_error_of_its_own(shape: tuple[int, ...]) -> None:
    with pytest.raises(ParityError, match="the engine returns shape"):
        compare("c", LOGITS, np.zeros(shape, np.float32), None)


def test_the_lowest_class_wins_a_tie() -> None:
    np.testing.assert_array_equal(metrics.mask_of(LOGITS, None), [[[0, 1], [0, 0]]])


def test_one_channel_is_foreground_above_the_threshold() -> None:
    logits = np.array([-1.0, 0.0, 0.1, 3.0], np.float32).reshape(1, 1, 2, 2)
    np.testing.assert_array_equal(metrics.mask_of(logits, None), [[[0, 0], [1, 1]]])
    np.testing.assert_array_equal(metrics.mask_of(logits, 0.3), [[[0, 1], [1, 1]]])
    other = logits + np.float32(0.2)
    case = compare("c", logits, other, 0.5)
    assert case.differing_pixels == 1 and case.margin_ratio == pytest.approx(0, abs=1e-6)


def test_the_boundary_share_looks_only_near_changes_of_class() -> None:
    reference = np.zeros((1, 2, 1, 20), np.float32)
    reference[0, 1, 0, :5] = 1  # the class changes between columns 4 and 5
    far, near = reference.copy(), reference.copy()
    far[0, 1, 0, 15] = 9
    near[0, 1, 0, 6] = 9
    assert compare("c", reference, far, None).boundary_agreement == 1
    assert compare("c", reference, near, None).boundary_agreement == pytest.approx(1 - 1 / 6)


def test_failures_of_all_cases_are_listed() -> None:
    bad = compare("noise", LOGITS, LOGITS * 2, None)
    failures = metrics.failures([bad, compare("good", LOGITS, LOGITS, None), bad], Limits())
    assert failures == ["noise: relative logit error 1.00e+00, limit 1e-03"] * 2
    assert metrics.failures([bad], Limits(relative_error=2, agreement=0)) == []


def test_without_a_limit_of_the_error_pixels_alone_decide() -> None:
    assert metrics.failures([compare("c", LOGITS, LOGITS * 2, None)], Limits(relative_error=None)) == []
    other = LOGITS[:, ::-1]
    assert len(metrics.failures([compare("c", LOGITS, other, None)], Limits(relative_error=None))) == 1


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 1000))
def test_an_error_within_half_the_margin_never_flips_a_pixel(height: int, width: int, seed: int) -> None:
    """The near-tie rule: a pixel differs only where the margin is at most twice the largest error."""
    rng = np.random.default_rng(seed)
    reference = rng.standard_normal((1, 3, height, width)).astype(np.float32)
    other = reference + rng.uniform(-0.3, 0.3, reference.shape).astype(np.float32)
    case = compare("c", reference, other, None)
    assert (case.margin_ratio is None) == (case.differing_pixels == 0)
    assert case.margin_ratio is None or case.margin_ratio <= 2 + 1e-5
    assert 0 <= case.miou <= 1 and 0 <= case.boundary_agreement <= 1


def test_inputs_are_the_same_in_every_run_and_normalised_as_asked() -> None:
    shape = (2, 3, 10, 14)
    first = dict(sample_inputs.inputs(shape, (10, 20, 30), (2, 4, 8), "RGB"))
    again = dict(sample_inputs.inputs(shape, (10, 20, 30), (2, 4, 8), "RGB"))
    assert list(first) == ["noise", "natural image"]
    for name, x in first.items():
        assert x.shape == shape and x.dtype == np.float32
        np.testing.assert_array_equal(x, again[name])
    plain = sample_inputs.natural_input(shape, (0, 0, 0), (1, 1, 1), "RGB")
    scaled = (plain - np.reshape((10, 20, 30), (1, 3, 1, 1))) / np.reshape((2, 4, 8), (1, 3, 1, 1))
    np.testing.assert_allclose(first["natural image"], scaled, rtol=1e-6)
    np.testing.assert_array_equal(sample_inputs.natural_input(shape, (0,) * 3, (1,) * 3, "BGR"), plain[:, ::-1])
    np.testing.assert_array_equal(plain[1], plain[0][..., ::-1])


def test_a_model_without_three_channels_gets_noise_only() -> None:
    assert [name for name, _ in sample_inputs.inputs((1, 4, 8, 8), (0,), (1,), "RGB")] == ["noise"]
