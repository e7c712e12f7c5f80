from __future__ import annotations

import pytest

from segc.passes.legalize.break_conv_add_fusion import BreakConvAddFusion
from tests.helpers.checks import HEAD, check_pass, check_untouched

WEIGHTS = "<float[2,2,1,1] w = {1, -2, 3, 0.5}, float[2] c = {1, 2}>"


def block(body: str) -> str:
    return HEAD + f" g (float[N,2,H,W] x, float[N,2,H,W] z) => (float[N,2,H,W] y) {WEIGHTS} {{ {body} }}"


def test_the_sum_becomes_a_difference() -> None:
    check_pass(
        BreakConvAddFusion(),
        block("t = Conv (x, w)  y = Add (t, x)"),
        block("t = Conv (x, w)  y_negative = Neg (x)  y = Sub (t, y_negative)"),
    )


@pytest.mark.parametrize(
    "body",
    [
        "t = Conv (x, w)  y = Add (x, t)",
        "t = Conv (x, w)  b = BatchNormalization (t, c, c, c, c)  y = Add (b, x)",
        "r = Relu (x)  t = Conv (r, w)  s = Add (t, r)  y = Relu (s)",
    ],
)
def test_either_side_and_with_a_normalization_between(body: str) -> None:
    check_pass(BreakConvAddFusion(32), block(body), None)


@pytest.mark.parametrize(
    "body",
    [
        "t = Conv (x, w)  y = Add (t, z)",
        "t = Conv (x, w)  r = Relu (t)  u = Conv (r, w)  y = Add (u, x)",
        "y = Add (x, x)",
    ],
)
def test_another_summand_is_left_alone(body: str) -> None:
    check_untouched(BreakConvAddFusion(), block(body), None)


def test_many_channels_are_left_alone() -> None:
    text = block("t = Conv (x, w)  y = Add (t, x)")
    check_untouched(BreakConvAddFusion(2), text, None)
    check_pass(BreakConvAddFusion(3), text, None)


CHAINS = BreakConvAddFusion(32, chains=True)


def test_a_second_sum_becomes_a_difference() -> None:
    check_pass(
        CHAINS,
        block("t = Conv (x, w)  s = Add (t, z)  e = Exp (z)  y = Add (s, e)"),
        block("t = Conv (x, w)  s = Add (t, z)  e = Exp (z)  y_negative = Neg (e)  y = Sub (s, y_negative)"),
    )


def test_a_constant_is_negated_at_once() -> None:
    text = (
        HEAD
        + """ g (float[1,2,1,2] x, float[1,2,1,2] z) => (float[1,2,1,2] y) <float[2,2,1,1] w = {1, -2, 3, 0.5},
        float[1,2,1,2] k = {1, -2, 0, 4}> { t = Conv (x, w)  s = Add (z, t)  y = Add (k, s) }"""
    )
    after = text.replace("[1,2,1,2] k = {1, -2, 0, 4}", "[1,2,1,2] y_negative = {-1, 2, -0, -4}")
    check_pass(CHAINS, text, after.replace("Add (k, s)", "Sub (s, y_negative)"))


def test_a_convolution_comes_first() -> None:
    check_pass(
        CHAINS,
        block("t = Conv (x, w)  s = Add (t, z)  e = Exp (z)  u = Conv (e, w)  y = Add (s, u)"),
        block("t = Conv (x, w)  s = Add (t, z)  e = Exp (z)  u = Conv (e, w)  y = Add (u, s)"),
    )


def test_of_three_sums_the_second_is_broken() -> None:
    body = "t = Conv (x, w)  s = Add (t, z)  e = Exp (z)  r = Add (s, e)  f = Exp (e)  y = Add (r, f)"
    check_pass(CHAINS, block(body), None, changes=1)


@pytest.mark.parametrize(
    "body",
    [
        "t = Conv (x, w)  s = Add (t, z)  u = Conv (z, w)  y = Add (u, s)",
        "t = Conv (x, w)  s = Add (t, z)  r = Relu (s)  e = Exp (z)  y = Add (r, e)",
        "t = Conv (x, w)  s = Add (t, z)  e = Exp (s)  y = Add (s, e)",
        "t = Conv (x, w)  e = Exp (t)  s = Add (t, z)  y = Add (s, e)",
        "t = Exp (x)  s = Add (t, z)  e = Exp (z)  y = Add (s, e)",
    ],
)
def test_sums_that_are_not_fused_twice_stay(body: str) -> None:
    check_untouched(CHAINS, block(body), None)


def test_without_chains_a_second_sum_stays() -> None:
    check_untouched(BreakConvAddFusion(32), block("t = Conv (x, w)  s = Add (t, z)  e = Exp (z)  y = Add (s, e)"), None)


def test_sums_of_other_shapes_stay() -> None:
    text = (
        HEAD
        + """ g (float[1,2,3,4] x, float[1,2,3,4] z) => (float[1,2,3,4] y) <float[2,2,1,1] w = {1, -2, 3, 0.5},
        float[1,2,1,1] k = {1, -2}> { t = Conv (x, w)  s = Add (t, z)  y = Add (s, k) }"""
    )
    check_untouched(CHAINS, text, None)
