from __future__ import annotations

from segc.passes.legalize.instance_normalization import LegalizeInstanceNormalization
from tests.helpers.checks import HEAD, check_pass, check_untouched

TEXT = (
    HEAD
    + """ g (float[N,2,H,W] x) => (float[N,2,H,W] y) <float[2] s = {2, 3}, float[2] b = {0.5, 1}>
    { y = InstanceNormalization <epsilon = 0.25> (x, s, b) }"""
)


def test_a_map_becomes_means_over_its_pixels() -> None:
    check_pass(
        LegalizeInstanceNormalization(),
        TEXT,
        HEAD
        + """ g (float[N,2,H,W] x) => (float[N,2,H,W] y)
        <float y_epsilon = {0.25}, float[2,1,1] y_scale = {2, 3}, float[2,1,1] y_bias = {0.5, 1}>
        {
            y_mean = ReduceMean <axes = [2, 3], keepdims = 1> (x)
            y_centered = Sub (x, y_mean)
            y_squares = Mul (y_centered, y_centered)
            y_variance = ReduceMean <axes = [2, 3], keepdims = 1> (y_squares)
            y_steady = Add (y_variance, y_epsilon)
            y_deviation = Sqrt (y_steady)
            y_normalized = Div (y_centered, y_deviation)
            y_scaled = Mul (y_normalized, y_scale)
            y = Add (y_scaled, y_bias)
        }""",
        atol=1e-5,
    )


def test_scale_and_bias_may_be_computed_and_there_may_be_one_spatial_axis() -> None:
    check_pass(
        LegalizeInstanceNormalization(),
        HEAD
        + """ g (float[N,2,L] x, float[2] s, float[2] b) => (float[N,2,L] y)
        { y = InstanceNormalization (x, s, b) }""",
        None,
        atol=1e-3,  # one of the sizes has two cells a row, whose deviation may be near zero
    )


def test_a_tensor_without_spatial_axes_is_left_alone() -> None:
    check_untouched(
        LegalizeInstanceNormalization(),
        TEXT.replace("N,2,H,W", "N,2"),
        "has 2 axes, none of them spatial",
    )


def test_a_graph_without_the_op_is_left_alone() -> None:
    check_untouched(LegalizeInstanceNormalization(), HEAD + "g (float[N,6] x) => (float[N,6] y) { y = Relu (x) }", None)
