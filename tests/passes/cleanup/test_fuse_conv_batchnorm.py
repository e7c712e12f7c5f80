from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segc.graph import ir
from segc.passes.cleanup.fuse_conv_batchnorm import FuseConvBatchnorm
from tests.helpers.checks import HEAD, apply, check_numbers, check_pass, check_untouched, graph_of

CONSTANTS = """<float[2,1,1,1] w = {2, 3}, float[2,1,1,1] other = {4, 5}, float[2] b = {1, -1}, float[2] s = {2, 0.5},
    float[2] t = {3, 4}, float[2] m = {1, 2}, float[2] v = {0.99999, 3.99999}, float[2] bad = {-1, 1},
    float[2,1,1] c = {2, 4}, float[1,2,1,1] d = {3, 5}, float k = {2}, float[3] row = {1, 2, 3}, float nil = {0},
    float[2,2] g = {1, 2, 3, 4}, float[1,2,1,1] u = {1, 2}>"""


def text(nodes: str, y: str = "float[N,2,A,B] y", x: str = "float[N,1,H,W] x", head: str = HEAD) -> str:
    return f"{head} g ({x}) => ({y}) {CONSTANTS} {{ {nodes} }}"


def test_scale_and_shift_go_into_weight_and_bias() -> None:
    graph = check_pass(
        FuseConvBatchnorm(),
        text("a = Conv (x, w, b)  y = BatchNormalization <epsilon = 0.00001> (a, s, t, m, v)"),
        None,
        atol=1e-5,
    )
    (conv,) = graph.nodes
    np.testing.assert_allclose(conv.inputs[1].values.reshape(-1), [4, 0.75], rtol=1e-6)
    np.testing.assert_allclose(conv.inputs[2].values, [3, 3.25], rtol=1e-6)
    assert conv.outputs[0].name == "y"


@pytest.mark.parametrize(
    ("node", "weight", "bias"),
    [
        ("Mul (a, c)", [4, 12], [2, -4]),
        ("Mul (d, a)", [6, 15], [3, -5]),
        ("Div (a, k)", [1, 1.5], [0.5, -0.5]),
        ("Add (a, c)", [2, 3], [3, 3]),
        ("Sub (a, d)", [2, 3], [-2, -6]),
        ("Sub (d, a)", [-2, -3], [2, 6]),
        ("Add (k, a)", [2, 3], [3, 1]),
    ],
)
def test_arithmetic_by_channel_goes_into_the_conv(node: str, weight: list[float], bias: list[float]) -> None:
    check_pass(
        FuseConvBatchnorm(),
        text(f"a = Conv (x, w, b)  z = {node}  y = Relu (z)"),
        text("a = Conv (x, a_weight, a_bias)  y = Relu (a)")
        .replace("<float[2,1,1,1] w", f"<float[2,1,1,1] a_weight = {{{weight[0]}, {weight[1]}}}, float[2,1,1,1] w")
        .replace("float[2] b", f"float[2] a_bias = {{{bias[0]}, {bias[1]}}}, float[2] b")
        .replace("a_weight", "w" if weight == [2, 3] else "a_weight"),
        atol=1e-5,
    )


def test_a_chain_is_fused_and_the_output_keeps_its_name() -> None:
    nodes = "a = Conv (x, w)  e = BatchNormalization (a, s, t, m, v)  f = Mul (e, c)  y = Add (f, d)"
    graph = check_pass(FuseConvBatchnorm(), text(nodes), None, atol=1e-4, changes=3)
    assert [(n.op, n.outputs[0].name) for n in graph.nodes] == [("Conv", "y")]


def test_a_node_that_asks_for_the_shape_does_not_stop_it() -> None:
    """Dynamic models resize to the sides of another map."""
    graph = check_pass(
        FuseConvBatchnorm(),
        text(
            "a = Conv (x, w, b)  sides = Shape (a)  y = BatchNormalization <epsilon = 0.00001> (a, s, t, m, v)",
            "float[N,2,A,B] y, int64[4] sides",
        ),
        None,
        atol=1e-5,
    )
    assert [(n.op, n.outputs[0].name) for n in graph.nodes] == [("Conv", "y"), ("Shape", "sides")]


def test_a_shift_in_front_of_a_conv_without_padding_becomes_its_bias() -> None:
    nodes = "a = BatchNormalization (x, s, t, m, v)  y = Conv (a, u)"
    graph = check_pass(FuseConvBatchnorm(), text(nodes, "float[N,1,A,B] y", "float[N,2,H,W] x"), None, atol=1e-5)
    assert [n.op for n in graph.nodes] == ["Conv"]


def test_gemm_scales_its_columns() -> None:
    for attrs in ("", "<transB = 1, alpha = 0.5, beta = 2.0>"):
        nodes = f"a = Gemm {attrs} (x, g, b)  e = BatchNormalization (a, s, t, m, v)  y = Mul (e, k)"
        graph = check_pass(FuseConvBatchnorm(), text(nodes, "float[N,2] y", "float[N,2] x"), None, atol=1e-4, changes=2)
        assert [n.op for n in graph.nodes] == ["Gemm"]


CONV = "a = Conv (x, w, b)  "
NORM = "y = BatchNormalization (a, s, t, m, v)"


@pytest.mark.parametrize(
    ("nodes", "y", "x", "reason"),
    [
        (CONV + NORM + "  z = Relu (a)", "float[N,2,A,B] y, float[N,2,A,B] z", None, "'a' is also used elsewhere"),
        (CONV + NORM, "float[N,2,A,B] y, float[N,2,A,B] a", None, "'a' is also used elsewhere"),
        (CONV + NORM + "  z = Conv (x, w)", "float[N,2,A,B] y, float[N,2,A,B] z", None, "weight 'w' is shared"),
        ("a = Conv (x, f, b)  " + NORM, None, "float[N,1,H,W] x, float[2,1,1,1] f", "its weights are not constant"),
        (CONV + "y = BatchNormalization (a, s, t, f, v)", None, "float[N,1,H,W] x, float[2] f", "not constant"),
        (CONV + "y = BatchNormalization (a, s, t, m, bad)", None, None, "not finite"),
        (CONV + "y = Div (a, nil)", None, None, "not finite"),
        ("a = Conv (x, w)  y = Add (a, k)", None, None, "a bias takes 8 bytes, more than the 4 bytes it replaces"),
        (CONV + "y = Mul (a, row)", "float[N,2,A,3] y", "float[N,1,H,3] x", None),
        (CONV + "y = Div (k, a)", None, None, None),
        (
            "a = BatchNormalization (x, s, t, m, v)  y = Conv <pads = [1, 1, 1, 1]> (a, u)",
            "float[N,1,A,B] y",
            "float[N,2,H,W] x",
            "pads with 0 after the shift",
        ),
        (
            'a = BatchNormalization (x, s, t, m, v)  y = Conv <auto_pad = "SAME_UPPER"> (a, u)',
            "float[N,1,A,B] y",
            "float[N,2,H,W] x",
            "pads with 0 after the shift",
        ),
    ],
)
def test_what_cannot_be_fused_says_why(nodes: str, y: str | None, x: str | None, reason: str | None) -> None:
    given = {name: value for name, value in (("y", y), ("x", x)) if value is not None}
    check_untouched(FuseConvBatchnorm(), text(nodes, **given), reason)


def test_training_mode_stays() -> None:
    nodes = CONV + "y, p, q = BatchNormalization <training_mode = 1> (a, s, t, m, v)"
    check_untouched(FuseConvBatchnorm(), text(nodes), "training mode")


def linear(op: str, groups: int, cin: int, cout: int, bias: bool, rng: np.random.Generator) -> gs.Graph:
    """Input, grouped convolution with a 2 x 3 kernel, BatchNormalization."""
    shape = (cout * groups, cin, 2, 3) if op == "Conv" else (cin * groups, cout, 2, 3)
    channels = cout * groups

    def constant(name: str, *size: int) -> gs.Constant:
        return gs.Constant(name, rng.standard_normal(size).astype(np.float32))

    x, a = gs.Variable("x", np.float32, (2, cin * groups, 5, 7)), gs.Variable("a", np.float32)
    y = gs.Variable("y", np.float32, (2, channels, "A", "B"))
    given = [x, constant("w", *shape), *([constant("b", channels)] if bias else [])]
    variance = gs.Constant("v", rng.uniform(0.1, 2, channels).astype(np.float32))
    norm = [a, *(constant(n, channels) for n in "stm"), variance]
    nodes = [gs.Node(op, op, {"group": groups}, given, [a]), gs.Node("BatchNormalization", "n", {}, norm, [y])]
    graph = gs.Graph(nodes, [x], [y], opset=17, ir_version=9)
    ir.infer_shapes(graph)
    return graph


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["Conv", "ConvTranspose"]),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 3),
    st.booleans(),
    st.integers(0, 99),
)
def test_groups_and_transposed_weights_are_scaled_by_output_channel(
    op: str, groups: int, cin: int, cout: int, bias: bool, seed: int
) -> None:
    before, after = (linear(op, groups, cin, cout, bias, np.random.default_rng(seed)) for _ in range(2))
    assert apply(FuseConvBatchnorm(), after).changes == 1
    assert [n.op for n in after.nodes] == [op]
    check_numbers(before, after, atol=2e-4)


@pytest.mark.parametrize(
    ("nodes", "y", "x"),
    [
        ("r = Relu (x)  y = Conv (r, w)", "float[N,2,A,B] y", "float[N,1,H,W] x"),
        ("r = Relu (x)  y = Mul (r, k)", "float[N,1,H,W] y", "float[N,1,H,W] x"),
        ("r = MatMul (x, g)  y = Mul (r, k)", "float[N,2] y", "float[N,2] x"),
        ("a = Conv (x, lone)  y = Mul (a, c)", "float[N,2,A,B] y", "float[N,1,H,W] x"),
        ("a = Gemm (x, whole)  y = Mul (a, three)", "int32[N,2] y", "int32[N,2] x"),
    ],
    ids=["no BatchNormalization", "no weights", "a MatMul", "more channels after it", "whole numbers"],
)
def test_other_patterns_are_none_of_its_business(nodes: str, y: str, x: str) -> None:
    more = "<int32[2,2] whole = {1, 2, 3, 4}, int32 three = {3}, float[1,1,1,1] lone = {2}, float[2,1,1,1] w"
    check_untouched(FuseConvBatchnorm(), text(nodes, y, x).replace("<float[2,1,1,1] w", more), None)


def test_arithmetic_of_another_domain_stays() -> None:
    graph = graph_of(text("a = Conv (x, w)  y = Mul (a, k)"))
    graph.nodes[1].domain = "other"
    result = FuseConvBatchnorm().run(graph)
    assert (result.changes, result.skips, len(graph.nodes)) == (0, [], 2)


def test_a_convolution_of_unknown_rank_keeps_its_factor_and_says_why() -> None:
    graph = graph_of(text("a = Conv (x, w)  y = Mul (a, k)"))
    graph.nodes[0].outputs[0].shape = None
    result = FuseConvBatchnorm().run(graph)
    assert (result.changes, [skip.reason for skip in result.skips]) == (0, ["the rank of 'a' is unknown"])


def test_a_factor_alone_makes_no_bias() -> None:
    graph = check_pass(FuseConvBatchnorm(), text("a = Conv (x, w)  y = Mul (a, k)"), None)
    assert [len(node.inputs) for node in graph.nodes] == [2]
