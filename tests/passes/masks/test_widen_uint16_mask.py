from __future__ import annotations

import pytest

from segc.passes.masks.widen_uint16_mask import WidenUint16Mask
from tests.helpers.checks import HEAD, check_pass, check_untouched


def test_a_wide_mask_becomes_int32() -> None:
    check_pass(
        WidenUint16Mask(),
        HEAD
        + """g (float[1,300,2,2] x) => (uint16[1,2,2] mask)
        { i = ArgMax <axis = 1, keepdims = 0> (x)  mask = Cast <to = 4> (i) }""",
        HEAD
        + """g (float[1,300,2,2] x) => (int32[1,2,2] mask)
        { i = ArgMax <axis = 1, keepdims = 0> (x)  mask = Cast <to = 6> (i) }""",
        same_outputs=False,
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("g (float[N] x) => (uint8[N] y) { y = Cast <to = 2> (x) }", None),
        ("g (uint16[N] x) => (uint16[N] y) { y = Identity (x) }", "no Cast writes it"),
        ("g (float[N] x) => (uint16[N] y, float[N] z) { y = Cast <to = 4> (x)  z = Cast <to = 1> (y) }", "other nodes"),
    ],
)
def test_other_outputs_are_left_alone(text: str, reason: str | None) -> None:
    check_untouched(WidenUint16Mask(), HEAD + text, reason)
