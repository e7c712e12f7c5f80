from __future__ import annotations

import pytest

from segc.passes.legalize.layer_normalization import LegalizeLayerNormalization
from tests.helpers.checks import HEAD, check_pass, check_untouched


def norm(shape: str, weights: str, attrs: str, kind: str = "float") -> str:
    return (
        HEAD
        + f""" g ({kind}[{shape}] x, {kind}[{weights}] s, {kind}[{weights}] b) => ({kind}[{shape}] y)
        {{ y = LayerNormalization <{attrs}> (x, s, b) }}"""
    )


def test_the_last_axis_becomes_means() -> None:
    check_pass(
        LegalizeLayerNormalization(),
        atol=1e-5,
        before=norm("N,4,6", "6", "axis = -1, epsilon = 0.5"),
        after=HEAD
        + """ g (float[N,4,6] x, float[6] s, float[6] b) => (float[N,4,6] y) <float y_epsilon = {0.5}>
        {
            y_mean = ReduceMean <axes = [2], keepdims = 1> (x)
            y_centered = Sub (x, y_mean)
            y_squares = Mul (y_centered, y_centered)
            y_variance = ReduceMean <axes = [2], keepdims = 1> (y_squares)
            y_steady = Add (y_variance, y_epsilon)
            y_deviation = Sqrt (y_steady)
            y_normalized = Div (y_centered, y_deviation)
            y_scaled = Mul (y_normalized, s)
            y = Add (y_scaled, b)
        }""",
    )


@pytest.mark.parametrize(("axis", "weights"), [(1, "4,6"), (2, "6"), (-2, "4,6"), (-3, "N,4,6")])
def test_axes_from_any_axis_on(axis: int, weights: str) -> None:
    check_pass(LegalizeLayerNormalization(), norm("N,4,6", weights, f"axis = {axis}"), None, atol=1e-5)


def test_half_precision_is_normalised_in_single_precision() -> None:
    graph = check_pass(LegalizeLayerNormalization(), norm("N,4,6", "6", "axis = -1", kind="float16"), None, atol=1e-2)
    assert [n.op for n in graph.nodes].count("Cast") == 2


def test_without_bias_nothing_is_added_and_axes_are_an_input_from_opset_18_on() -> None:
    text = """ g (float[N,4,6] x, float[6] s) => (float[N,4,6] y) { y = LayerNormalization (x, s) }"""
    graph = check_pass(LegalizeLayerNormalization(), HEAD.replace("17", "20") + text, None, atol=1e-5)
    assert graph.outputs[0].inputs[0].op == "Mul"
    assert all(len(n.inputs) == 2 for n in graph.nodes if n.op == "ReduceMean")


def test_a_node_that_also_returns_the_mean_is_left_alone() -> None:
    check_untouched(
        LegalizeLayerNormalization(),
        reason="it has a second output, 'm'",
        text=HEAD
        + """ g (float[N,4,6] x, float[6] s) => (float[N,4,6] y, float[N,4,1] m)
        { y, m = LayerNormalization <axis = -1> (x, s) }""",
    )


def test_another_stash_type_is_left_alone() -> None:
    check_untouched(
        LegalizeLayerNormalization(),
        reason="stash_type is 11",
        text=norm("N,4,6", "6", "stash_type = 11"),
    )


def test_a_graph_without_the_op_is_left_alone() -> None:
    check_untouched(LegalizeLayerNormalization(), HEAD + "g (float[N,6] x) => (float[N,6] y) { y = Relu (x) }", None)
