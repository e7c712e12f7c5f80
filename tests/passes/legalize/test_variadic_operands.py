from __future__ import annotations

import pytest

from segc.passes.legalize.variadic_operands import LegalizeVariadicOperands
from tests.helpers.checks import HEAD, check_pass, check_untouched


def graph(body: str, inputs: str = "float[N,2,H,W] x, float[N,2,H,W] z", kind: str = "float") -> str:
    return HEAD + f" g ({inputs}) => ({kind}[N,2,H,W] y) {{ {body} }}"


@pytest.mark.parametrize("op", ["Max", "Min"])
def test_operands_are_repeated_beyond_the_rank(op: str) -> None:
    check_pass(LegalizeVariadicOperands(), graph(f"y = {op} (x, z)"), graph(f"y = {op} (x, z, x, z, x)"))


def test_the_greatest_rank_counts() -> None:
    check_pass(
        LegalizeVariadicOperands(),
        graph("y = Max (z, x)", "float[N,2,H,W] x, float[H,W] z"),
        graph("y = Max (z, x, z, x, z)", "float[N,2,H,W] x, float[H,W] z"),
    )


@pytest.mark.parametrize(
    ("body", "inputs", "kind"),
    [
        ("y = Max (x, z, x, z, x)", "float[N,2,H,W] x, float[N,2,H,W] z", "float"),
        ("y = Max (x, z)", "float[N,2,H,W] x, float[W] z", "float"),
        ("y = Max (z, x)", "float[N,2,H,W] x, float z", "float"),
        ("y = Max (x, z)", "int64[N,2,H,W] x, int64[N,2,H,W] z", "int64"),
        ("y = Add (x, z)", "float[N,2,H,W] x, float[N,2,H,W] z", "float"),
    ],
)
def test_enough_operands_integers_and_other_ops_stay(body: str, inputs: str, kind: str) -> None:
    check_untouched(LegalizeVariadicOperands(), graph(body, inputs, kind), None)
