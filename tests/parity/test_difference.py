"""Differences of arrays, absolute and relative."""

from __future__ import annotations

import math

import numpy as np

from segc.parity.difference import largest_difference


def test_the_largest_difference_is_relative_to_the_largest_value() -> None:
    a = np.array([1.0, np.nan, 4.0])
    assert largest_difference(a, a) == (0, 0)
    assert largest_difference(a, np.array([1.0, np.nan, 5.0])) == (1, 0.25)
    assert largest_difference(np.zeros(2), np.full(2, 0.5)) == (0.5, 0.5)


def test_nan_and_infinity_stand_in_the_same_places() -> None:
    a = np.array([1.0, np.nan, 4.0])
    assert largest_difference(a, np.array([1.0, 2.0, 4.0])) == (math.inf, math.inf)


def test_small_types_are_compared_in_wide_ones() -> None:
    a, b = np.array([60000], np.float16), np.array([-60000], np.float16)
    assert largest_difference(a, b) == (120000, 2)  # float16 does not hold that
    assert largest_difference(np.array([True]), np.array([False])) == (1, 1)
    assert largest_difference(np.array([200], np.uint8), np.array([201], np.uint8)) == (1, 0.005)
    assert largest_difference(np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32)) == (0, 0)
