from __future__ import annotations

import pytest

from segc.passes.legalize.types import LegalizeTypes
from tests.helpers.checks import HEAD, check_pass, check_untouched


def test_booleans_are_compared_as_integers() -> None:
    check_pass(
        LegalizeTypes(),
        HEAD + " g (bool[N,2] a, bool[N,2] b) => (bool[N,2] y) { y = Equal (a, b) }",
        HEAD
        + """ g (bool[N,2] a, bool[N,2] b) => (bool[N,2] y)
        { y_input0 = Cast <to = 7> (a)  y_input1 = Cast <to = 7> (b)  y = Equal (y_input0, y_input1) }""",
    )


def test_what_moves_is_cast_back() -> None:
    check_pass(
        LegalizeTypes(),
        HEAD + " g (int32[N,2] x) => (int32[2,N] y) { y = Transpose <perm = [1, 0]> (x) }",
        HEAD
        + """ g (int32[N,2] x) => (int32[2,N] y)
        { y_input0 = Cast <to = 7> (x)  y_wide = Transpose <perm = [1, 0]> (y_input0)
          y = Cast <to = 6> (y_wide) }""",
    )


def test_constant_indices_are_widened_here_and_now() -> None:
    check_pass(
        LegalizeTypes(),
        HEAD + " g (float[N,4] x) => (float[N,2] y) <int32[2] i = {3, -1}> { y = Gather <axis = 1> (x, i) }",
        HEAD
        + " g (float[N,4] x) => (float[N,2] y) <int64[2] y_input1 = {3, -1}> { y = Gather <axis = 1> (x, y_input1) }",
    )


@pytest.mark.parametrize(
    "text",
    [
        " g (int32[N,4] a, int32[4] b) => (bool[N,4] y) { y = Less (a, b) }",
        " g (bool[N,4] c, int32[N,4] a, int32[4] b) => (int32[N,4] y) { y = Where (c, a, b) }",
        " g (bool[2,1] x) => (bool[2,3] y) <int64[2] s = {2, 3}> { y = Expand (x, s) }",
        " g (bool[2,1] x) => (bool[2,3] y) <int64[2] s = {1, 3}> { y = Tile (x, s) }",
        """ g (int32[N,4] x) => (int32[N,2] y) <int32[1] a = {1}, int32[1] b = {3}, int32[1] c = {1}>
            { y = Slice (x, a, b, c) }""",
        """ g (int32[5,4] x) => (int32[1,2] y) <int32[2] a = {1, 1}, int32[2] b = {3, 4}, int32[2] s = {2, 2}>
            { y = Slice (x, a, b, , s) }""",
        " g (int32[3,4] x) => (int32[3,1] y) { y = ReduceMax <axes = [1]> (x) }",
        " g (float[3,4] x) => (float[3,4] y) <int64 two = {2}> { y = Pow (x, two) }",
    ],
)
def test_the_numbers_stay(text: str) -> None:
    check_pass(LegalizeTypes(), HEAD + text, None)


@pytest.mark.parametrize(
    "text",
    [
        " g (int32[N,4] a, int32[4] b) => (int32[N,4] y) { y = Add (a, b) }",
        " g (uint8[N,4] x) => (uint8[4,N] y) { y = Transpose <perm = [1, 0]> (x) }",
        " g (int64[N,4] a, int64[4] b) => (bool[N,4] y) { y = Less (a, b) }",
        " g (int64[4] x) => (int64[4] y) <int32 two = {2}> { y = Pow (x, two) }",
    ],
)
def test_arithmetic_and_other_types_are_left_alone(text: str) -> None:
    check_untouched(LegalizeTypes(), HEAD + text, None)


def test_what_the_runtime_takes_is_kept() -> None:
    text = HEAD + " g (bool[N,2] x) => (bool[2,N] y) { y = Transpose <perm = [1, 0]> (x) }"
    check_untouched(LegalizeTypes(("Transpose",)), text, None)
