from __future__ import annotations

import pytest

from segc.passes.legalize.operand_ranks import LegalizeOperandRanks
from tests.helpers.checks import HEAD, check_pass, check_untouched


def graph(body: str, z: str = "float[2,H,W] z", constants: str = "") -> str:
    return HEAD + f" g (float[N,2,H,W] x, {z}) => (float[N,2,H,W] y) {constants} {{ {body} }}"


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
def test_a_computed_operand_is_unsqueezed(op: str) -> None:
    check_pass(
        LegalizeOperandRanks(),
        graph(f"y = {op} (x, z)"),
        graph(
            f"y_operand = Unsqueeze (z, y_operand_axes)  y = {op} (x, y_operand)",
            constants="<int64[1] y_operand_axes = {0}>",
        ),
    )


def test_a_constant_gets_its_axes_at_once() -> None:
    check_pass(
        LegalizeOperandRanks(),
        graph("y = Mul (w, x)", constants="<float[2,1,1] w = {3, -2}>"),
        graph("y = Mul (y_operand, x)", constants="<float[1,2,1,1] y_operand = {3, -2}>"),
    )


def test_two_axes_become_four() -> None:
    check_pass(LegalizeOperandRanks(), graph("y = Sub (z, x)", "float[H,W] z"), None)


@pytest.mark.parametrize(
    ("body", "z"),
    [
        ("y = Add (x, z)", "float[1,2,H,W] z"),
        ("y = Add (x, z)", "float[W] z"),
        ("y = Add (x, z)", "float z"),
        ("y = Max (x, z)", "float[2,H,W] z"),
    ],
)
def test_what_is_broadcast_right_stays(body: str, z: str) -> None:
    check_untouched(LegalizeOperandRanks(), graph(body, z), None)


def test_five_axes_stay() -> None:
    text = HEAD + " g (float[N,2,2,H,W] x, float[2,H,W] z) => (float[N,2,2,H,W] y) { y = Add (x, z) }"
    check_untouched(LegalizeOperandRanks(), text, None)


def test_integers_stay() -> None:
    text = HEAD + " g (int64[2,3] x, int64[2,2,3] z) => (int64[2,2,3] y) { y = Add (x, z) }"
    check_untouched(LegalizeOperandRanks(), text, None)
