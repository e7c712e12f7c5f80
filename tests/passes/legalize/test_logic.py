from __future__ import annotations

import itertools

import numpy as np
import pytest

from segc.passes.legalize.logic import LegalizeLogic
from segc.passes.support import evaluate
from tests.helpers.checks import HEAD, check_pass, check_untouched


def pair(op: str) -> str:
    return HEAD + f" g (bool[N,2] a, bool[N,2] b) => (bool[N,2] y) {{ y = {op} (a, b) }}"


def test_or_is_said_with_and_and_not() -> None:
    check_pass(
        LegalizeLogic(),
        pair("Or"),
        HEAD
        + """ g (bool[N,2] a, bool[N,2] b) => (bool[N,2] y)
        { y_not_a = Not (a)  y_not_b = Not (b)  y_neither = And (y_not_a, y_not_b)  y = Not (y_neither) }""",
    )


def test_xor_compares() -> None:
    check_pass(
        LegalizeLogic(),
        pair("Xor"),
        HEAD
        + """ g (bool[N,2] a, bool[N,2] b) => (bool[N,2] y)
        { y_a = Cast <to = 7> (a)  y_b = Cast <to = 7> (b)  y_same = Equal (y_a, y_b)  y = Not (y_same) }""",
    )


@pytest.mark.parametrize(("op", "truth"), [("Or", np.logical_or), ("Xor", np.logical_xor)])
def test_all_four_cases(op: str, truth: np.ufunc) -> None:
    graph = check_pass(LegalizeLogic(), pair(op), None)
    a, b = np.array(list(itertools.product([False, True], repeat=2))).T.reshape(2, 2, 2)
    np.testing.assert_array_equal(evaluate.outputs(graph, {"a": a, "b": b})["y"], truth(a, b))


@pytest.mark.parametrize(("op", "ops"), [("Or", ("Xor",)), ("Xor", ("Or",)), ("And", ("Or", "Xor"))])
def test_only_what_is_named_is_rewritten(op: str, ops: tuple[str, ...]) -> None:
    check_untouched(LegalizeLogic(ops), pair(op), None)
