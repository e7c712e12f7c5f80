from __future__ import annotations

import pytest

from segc.passes.legalize.repeated_operands import LegalizeRepeatedOperands
from tests.helpers.checks import HEAD, check_pass, check_untouched


def graph(body: str, kind: str = "float", constants: str = "") -> str:
    return HEAD + f" g ({kind}[N,2,H,W] x, {kind}[N,2,H,W] z) => ({kind}[N,2,H,W] y) {constants} {{ {body} }}"


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
def test_the_second_operand_becomes_a_copy(op: str) -> None:
    check_pass(
        LegalizeRepeatedOperands(),
        graph(f"a = Exp (x)  y = {op} (a, a)"),
        graph(f"a = Exp (x)  y_copy = Mul (a, y_one)  y = {op} (a, y_copy)", constants="<float y_one = {1}>"),
    )


def test_integers_are_copied_too() -> None:
    check_pass(LegalizeRepeatedOperands(), graph("a = Neg (x)  y = Mul (a, a)", "int64"), None)


@pytest.mark.parametrize(
    "body", ["y = Mul (x, x)", "a = Exp (x)  y = Mul (a, z)", "a = Exp (x)  b = Exp (x)  y = Mul (a, b)"]
)
def test_an_input_or_two_tensors_stay(body: str) -> None:
    check_untouched(LegalizeRepeatedOperands(), graph(body), None)
