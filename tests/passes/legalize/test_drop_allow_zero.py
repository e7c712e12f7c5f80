from __future__ import annotations

import pytest

from segc.passes.legalize.drop_allow_zero import DropAllowZero
from tests.helpers.checks import HEAD, check_pass, check_untouched


def test_sizes_that_are_computed() -> None:
    text = (
        HEAD
        + """ g (float[N,4] x) => (float[A,B] y) <int64[1] at = {{0}}, int64[1] r = {{-1}}>
        {{ s = Shape (x)  n = Gather (s, at)  sizes = Concat <axis = 0> (r, n)  y = Reshape {} (x, sizes) }}"""
    )
    check_pass(DropAllowZero(), text.format("<allowzero = 1>"), text.format(""))


def test_sizes_that_are_constant() -> None:
    text = HEAD + " g (float[N,4] x) => (float[M,2] y) <int64[2] s = {{-1, 2}}> {{ y = Reshape {} (x, s) }}"
    check_pass(DropAllowZero(), text.format("<allowzero = 1>"), text.format(""))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (" g (float[0,4] x) => (float[2,0] y) <int64[2] s = {2, 0}> { y = Reshape <allowzero = 1> (x, s) }", "empty"),
        (" g (float[N,4] x) => (float[2,0] y) <int64[2] s = {2, 0}> { y = Reshape <allowzero = 1> (x, s) }", "empty"),
        (" g (float[0,4] x) => (float[4,A] y) <int64[2] s = {4, -1}> { y = Reshape <allowzero = 1> (x, s) }", "empty"),
        (" g (float[N,4] x) => (float[N,2,2] y) <int64[3] s = {0, 2, 2}> { y = Reshape (x, s) }", None),
    ],
)
def test_what_is_left_alone(text: str, reason: str | None) -> None:
    check_untouched(DropAllowZero(), HEAD + text, reason)
