from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segc.passes.masks.fold_sigmoid_threshold import FoldSigmoidThreshold, logit
from tests.helpers.checks import HEAD, check_pass, check_untouched


def text(nodes: str, y: str = "bool[N,1,H,W] y", t: str = "float t = {0.5}", x: str = "float[N,1,H,W] x") -> str:
    return f"{HEAD} g ({x}) => ({y}) <{t}> {{ {nodes} }}"


@pytest.mark.parametrize("op", ["Greater", "GreaterOrEqual", "Less", "LessOrEqual"])
@pytest.mark.parametrize("operands", ["(p, t)", "(t, p)"])
def test_a_threshold_moves_through_the_sigmoid(op: str, operands: str) -> None:
    check_pass(
        FoldSigmoidThreshold(),
        text(f"p = Sigmoid (x)  y = {op} {operands}"),
        text(f"y = {op} {operands.replace('p', 'x').replace('t', 'y_logit')}", t="float y_logit = {0}"),
    )


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.7, 0.999])
@pytest.mark.parametrize("op", ["Greater (p, t)", "LessOrEqual (t, p)"])
def test_masks_stay_the_same_for_other_thresholds(threshold: float, op: str) -> None:
    graph = check_pass(
        FoldSigmoidThreshold(), text(f"p = Sigmoid (x)  y = {op}", t=f"float[1,1,1,1] t = {{{threshold}}}"), None
    )
    constant = next(t for t in graph.nodes[0].inputs if t.name == "y_logit")
    assert constant.values.shape == (1, 1, 1, 1)
    rounded = float(np.float32(threshold))  # what the graph holds
    assert float(constant.values.reshape(())) == pytest.approx(math.log(rounded / (1 - rounded)), rel=1e-6)


@pytest.mark.parametrize(
    ("nodes", "y", "t", "x", "reason"),
    [
        ("y = Greater (p, t)", None, "float t = {0}", None, "saturates at the threshold 0"),
        ("y = Greater (p, t)", None, "float t = {1}", None, "saturates at the threshold 1"),
        ("y = Greater (p, t)", None, "float t = {-0.5}", None, "saturates at the threshold -0.5"),
        ("y = Greater (p, t)", None, "float t = {0.999999}", None, "saturates"),
        ("y = Greater (p, t)", None, "float[2] t = {0.1, 0.2}", "float[N,1,H,2] x", "not one constant number"),
        ("y = Greater (p, f)", None, "float t = {0}", "float[N,1,H,W] x, float f", "not one constant number"),
        ("y = Greater (p, t)", "bool[1,N,1,H,W] y", "float[1,1,1,1,1] t = {0.5}", None, "to a larger shape"),
        (
            "y = Greater (p, t)  z = Neg (p)",
            "bool[N,1,H,W] y, float[N,1,H,W] z",
            None,
            None,
            "'p' is also used elsewhere",
        ),
        ("y = Greater (p, t)", "bool[N,1,H,W] y, float[N,1,H,W] p", None, None, "'p' is also used elsewhere"),
        ("y = Equal (p, t)", None, None, None, None),
    ],
)
def test_what_a_logit_cannot_say_stays(
    nodes: str, y: str | None, t: str | None, x: str | None, reason: str | None
) -> None:
    given_ = {name: value for name, value in (("y", y), ("t", t), ("x", x)) if value is not None}
    check_untouched(FoldSigmoidThreshold(), text(f"p = Sigmoid (x)  {nodes}", **given_), reason)


def test_a_comparison_of_something_else_is_none_of_our_business() -> None:
    check_untouched(FoldSigmoidThreshold(), text("p = Tanh (x)  y = Greater (p, t)"), None)


@given(st.floats(2e-3, 1 - 2e-3), st.sampled_from([np.float16, np.float32, np.float64]))
def test_the_bound_is_the_next_value_on_its_side(threshold: float, kind: type) -> None:
    """No value of the type lies between the bound and the exact logit."""
    exact = math.log(threshold) - math.log1p(-threshold)
    low, high = (logit(threshold, np.dtype(kind), down=down) for down in (True, False))
    assert low is not None and high is not None
    assert float(low) <= exact <= float(high)
    assert float(low) == float(high) or np.nextafter(low, high) == high


@given(st.floats(0.01, 0.99), st.floats(-6, 6))
def test_the_comparison_agrees_in_double_precision(threshold: float, x: float) -> None:
    low = logit(threshold, np.dtype(np.float64), down=True)
    sigmoid = 1 / (1 + math.exp(-x))
    assert low is not None
    if abs(sigmoid - threshold) > 1e-12:
        assert (x > float(low)) == (sigmoid > threshold)
