from __future__ import annotations

import numpy as np
import pytest

from segc.graph import ir
from segc.passes.legalize.product_prelu import LegalizeProductPRelu
from segc.passes.support import evaluate
from tests.helpers.checks import HEAD, check_untouched, graph_of

SLOPES = "<float[4,4] w = {1, -2, 3, 4, 5, -6, 7, 8, 9, 1, 2, -3, 4, 5, 6, 7}, float[4,1,1] s = {-1, 0, 0.5, 2}"


def graph(body: str, slopes: str = SLOPES) -> str:
    return HEAD + f" g (float[1,4,3,4] x) => (float[1,4,3,4] y) {slopes}> {{ {body} }}"


@pytest.mark.parametrize(
    "body",
    [
        "p = MatMul (x, w)  y = PRelu (p, s)",
        "p = MatMul (x, w)  a = Add (x, p)  t = Tanh (a)  y = PRelu (t, s)",
        "p = MatMul (x, w)  q = PRelu (p, s)  y = Neg (q)",
    ],
)
def test_slopes_behind_a_product_are_two_terms(body: str) -> None:
    made = graph_of(graph(body))
    x = np.random.default_rng(0).standard_normal((1, 4, 3, 4)).astype(np.float32)
    want = evaluate.outputs(made, {"x": x})["y"]
    assert LegalizeProductPRelu().run(made).changes == 1
    assert not any(node.op == "PRelu" for node in made.nodes)
    np.testing.assert_array_equal(evaluate.outputs(ir.cleanup(made), {"x": x})["y"], want)


@pytest.mark.parametrize(
    ("body", "slopes"),
    [
        ("y = PRelu (x, s)", SLOPES),
        ("a = Softmax (x)  y = PRelu (a, s)", SLOPES),
        ("p = MatMul (x, w)  a = Softmax (p)  y = PRelu (a, s)", SLOPES),
        ("p = MatMul (x, w)  y = PRelu (p, s)", SLOPES.replace("float[4,1,1] s = {-1, 0, 0.5, 2}", "float[1] s = {2}")),
    ],
)
def test_other_slopes_stay(body: str, slopes: str) -> None:
    check_untouched(LegalizeProductPRelu(), graph(body, slopes), None)


def test_slopes_that_are_computed_stay() -> None:
    made = graph_of(graph("p = MatMul (x, w)  t = Neg (s)  y = PRelu (p, t)"))
    assert LegalizeProductPRelu().run(made).changes == 0
