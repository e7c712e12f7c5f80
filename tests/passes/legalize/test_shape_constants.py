from __future__ import annotations

import pytest

from segc.passes.legalize.shape_constants import LegalizeShapeConstants
from tests.helpers.checks import HEAD, check_pass, check_untouched


def graph(body: str, constants: str, y: str = "int64[4] y") -> str:
    return HEAD + f" g (float[N,2,H,W] x, int64[4] v) => ({y}) <{constants}> {{ {body} }}"


@pytest.mark.parametrize(
    ("op", "k"), [("Add", "int64[1] k"), ("Sub", "int64 k"), ("Mul", "int64[1] k"), ("Div", "int64 k")]
)
def test_one_number_becomes_one_for_each_size(op: str, k: str) -> None:
    check_pass(
        LegalizeShapeConstants(),
        graph(f"s = Shape (x)  y = {op} (s, k)", f"{k} = {{2}}"),
        graph(f"s = Shape (x)  y = {op} (s, y_sizes)", "int64[4] y_sizes = {2, 2, 2, 2}"),
    )


def test_the_number_may_come_first() -> None:
    check_pass(LegalizeShapeConstants(), graph("s = Shape (x)  y = Sub (k, s)", "int64[1] k = {9}"), None)


@pytest.mark.parametrize(
    ("body", "constants", "y"),
    [
        ("s = Shape (x)  y = Mul (s, k)", "int64[4] k = {1, 2, 3, 4}", "int64[4] y"),
        ("s = Shape (x)  g = Gather (s, i)  y = Mul (g, k)", "int64[1] i = {2}, int64[1] k = {2}", "int64[1] y"),
        ("y = Mul (v, k)", "int64[1] k = {2}", "int64[4] y"),
        ("r = Relu (x)  y = Mul (r, k)", "float k = {2}", "float[N,2,H,W] y"),
    ],
)
def test_full_constants_single_sizes_inputs_and_floats_stay(body: str, constants: str, y: str) -> None:
    check_untouched(LegalizeShapeConstants(), graph(body, constants, y), None)
