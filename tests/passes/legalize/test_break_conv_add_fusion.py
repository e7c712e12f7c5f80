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
