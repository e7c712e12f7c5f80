from __future__ import annotations

import numpy as np
import pytest
from checks import HEAD20, check_pass, check_untouched, graph_of

from segc.passes import LegalizePRelu, evaluate


def test_prelu_becomes_two_terms_of_which_one_is_zero() -> None:
    check_pass(
        LegalizePRelu(),
        HEAD20 + "g (float[1,2,3] x) => (float[1,2,3] y) <float[2,1] s = {-1.5, 2}> { y = PRelu (x, s) }",
        HEAD20
        + """ g (float[1,2,3] x) => (float[1,2,3] y) <float[2,1] s = {-1.5, 2}, float y_zero = {0}>
        { y_below = Min (x, y_zero)  y_scaled = Mul (y_below, s)  y_above = Relu (x)  y = Add (y_above, y_scaled) }""",
        atol=0,
    )


@pytest.mark.parametrize("slope", [0.0, 0.25, 1.0, -3.0])
def test_every_number_gives_the_same(slope: float) -> None:
    text = HEAD20 + f"g (float[1,1,9] x) => (float[1,1,9] y) <float[1,1] s = {{{slope}}}> {{ y = PRelu (x, s) }}"
    x = np.array([[[0, -0.0, 1.5, -1.5, np.inf, -np.inf, np.nan, 3e38, -1e-40]]], np.float32)
    graph = graph_of(text)
    LegalizePRelu().run(graph)
    with np.errstate(invalid="ignore"):
        expected = np.where(x < 0, np.float32(slope) * x, x)
    np.testing.assert_array_equal(evaluate.outputs(graph, {"x": x})["y"], expected)


def test_a_slope_that_is_computed_is_left_alone() -> None:
    check_untouched(
        LegalizePRelu(), HEAD20 + "g (float[1,2] x, float[2] s) => (float[1,2] y) { y = PRelu (x, s) }", "not constant"
    )


def test_an_infinite_slope_is_left_alone() -> None:
    graph = graph_of(HEAD20 + "g (float[1,2] x) => (float[1,2] y) <float[2] s = {1, 2}> { y = PRelu (x, s) }")
    graph.nodes[0].inputs[1].values = np.array([1, np.inf], np.float32)
    result = LegalizePRelu().run(graph)
    assert result.changes == 0 and "not finite" in result.skips[0].reason
