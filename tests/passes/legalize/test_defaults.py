from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from segc.passes.legalize.defaults import LegalizeDefaults
from tests.helpers.checks import HEAD, check_pass, check_untouched, graph_of

HEAD11 = HEAD.replace("17", "11")
FULL = "kernel_shape = [1, 2], strides = [1, 1], pads = [0, 0, 0, 0]"


def test_a_conv_says_all() -> None:
    check_pass(
        LegalizeDefaults(),
        HEAD + """ g (float[N,1,H,4] x) => (float[N,1,H,3] y) <float[1,1,1,2] w = {1, 2}> { y = Conv (x, w) }""",
        HEAD
        + f""" g (float[N,1,H,4] x) => (float[N,1,H,3] y) <float[1,1,1,2] w = {{1, 2}}, float[1] y_bias = {{0}}>
        {{ y = Conv <{FULL}, dilations = [1, 1], group = 1> (x, w, y_bias) }}""",
    )


def test_a_bias_of_two_convs_is_copied() -> None:
    head = HEAD + " g (float[N,1,H,4] x) => (float[N,1,H,2] y) <float[1,1,1,2] w = {1, 2}, float[1] b = {3}"
    conv = f"Conv <{FULL}, dilations = [1, 1], group = 1>"
    check_pass(
        LegalizeDefaults(),
        head + f"> {{ t = {conv} (x, w, b)  y = {conv} (t, w, b) }}",
        head + f", float[1] t_bias = {{3}}> {{ t = {conv} (x, w, t_bias)  y = {conv} (t, w, b) }}",
    )


def test_what_is_said_stays() -> None:
    check_pass(
        LegalizeDefaults(),
        HEAD
        + """ g (float[N,1,5,6] x) => (float[N,1,H,W] y) <float[1,1,2,2] w = {1, 2, 3, 4}>
        { y = ConvTranspose <strides = [2, 3], auto_pad = "VALID", output_padding = [0, 0]> (x, w) }""",
        HEAD
        + """ g (float[N,1,5,6] x) => (float[N,1,H,W] y) <float[1,1,2,2] w = {1, 2, 3, 4}>
        { y = ConvTranspose <strides = [2, 3], kernel_shape = [2, 2], pads = [0, 0, 0, 0], dilations = [1, 1],
            group = 1> (x, w) }""",
    )


def test_an_average_of_opset_11_has_no_dilations() -> None:
    check_pass(
        LegalizeDefaults(),
        HEAD11 + " g (float[N,1,H,4] x) => (float[N,1,H,3] y) { y = AveragePool <kernel_shape = [1, 2]> (x) }",
        HEAD11 + f" g (float[N,1,H,4] x) => (float[N,1,H,3] y) {{ y = AveragePool <{FULL}> (x) }}",
    )


def test_a_maximum_has_them() -> None:
    check_pass(
        LegalizeDefaults(),
        HEAD11 + " g (float[N,1,H,4] x) => (float[N,1,H,3] y) { y = MaxPool <kernel_shape = [1, 2]> (x) }",
        HEAD11 + f" g (float[N,1,H,4] x) => (float[N,1,H,3] y) {{ y = MaxPool <{FULL}, dilations = [1, 1]> (x) }}",
    )


def test_all_axes_are_named() -> None:
    check_pass(
        LegalizeDefaults(),
        HEAD11 + " g (float[N,3] x) => (float[1,1] y) { y = ReduceMax (x) }",
        HEAD11 + " g (float[N,3] x) => (float[1,1] y) { y = ReduceMax <axes = [0, 1]> (x) }",
    )


def test_axes_of_one_are_squeezed() -> None:
    check_pass(
        LegalizeDefaults(),
        HEAD11 + " g (float[1,3,1] x) => (float[3] y) { y = Squeeze (x) }",
        HEAD11 + " g (float[1,3,1] x) => (float[3] y) { y = Squeeze <axes = [0, 2]> (x) }",
    )


def test_a_pad_fills_in_zeros() -> None:
    check_pass(
        LegalizeDefaults(),
        HEAD11 + " g (float[N,2] x) => (float[M,3] y) <int64[4] p = {0, 0, 0, 1}> { y = Pad (x, p) }",
        HEAD11
        + """ g (float[N,2] x) => (float[M,3] y) <int64[4] p = {0, 0, 0, 1}, float y_value = {0}>
        { y = Pad (x, p, y_value) }""",
    )
    text = HEAD11 + ' g (float[N,2] x) => (float[M,3] y) <int64[4] p = {0, 0, 0, 1}> { y = Pad <mode = "edge"> (x, p) }'
    assert len(check_pass(LegalizeDefaults(), text, None).nodes[0].inputs) == 3


def test_equal_parts_get_sizes() -> None:
    check_pass(
        LegalizeDefaults(),
        HEAD11 + " g (float[N,6] x) => (float[N,3] a, float[N,3] b) { a, b = Split <axis = 1> (x) }",
        HEAD11 + " g (float[N,6] x) => (float[N,3] a, float[N,3] b) { a, b = Split <axis = 1, split = [3, 3]> (x) }",
    )


def test_outputs_without_names_go_or_get_one() -> None:
    graph = graph_of(HEAD11 + f" g (float[1,1,4,4] x) => (float y) {{ y = MaxPool <{FULL}, dilations = [1, 1]> (x) }}")
    graph.nodes[0].outputs.append(gs.Variable.empty())
    assert LegalizeDefaults().run(graph).changes == 1
    assert [t.name for t in graph.nodes[0].outputs] == ["y"]
    graph = graph_of(HEAD11 + " g (float[4] x) => (float[2] y) <int64[1] k = {2}> { y, i = TopK (x, k) }")
    graph.nodes[0].outputs.pop()
    assert LegalizeDefaults().run(graph).changes == 1
    assert [(t.name, t.dtype, t.shape) for t in graph.nodes[0].outputs[1:]] == [("y_indices", np.int64, [2])]
    assert LegalizeDefaults().run(graph).changes == 0
    graph = graph_of(HEAD11 + " g (float[4] x) => (int64[2] y) <int64[1] k = {2}> { v, y = TopK (x, k) }")
    graph.nodes[0].outputs[0] = gs.Variable.empty()
    assert LegalizeDefaults().run(graph).changes == 1
    assert [(t.name, t.dtype) for t in graph.nodes[0].outputs] == [("y_values", np.float32), ("y", np.int64)]


def test_a_pad_of_a_tensor_of_unknown_type_gets_no_zero() -> None:
    text = """<ir_version: 9, opset_import: ["" : 11, "other" : 1]> g (float[2] x) => (float[3] y)
        <int64[2] p = {0, 1}> { t = other.Op (x)  y = Pad (t, p) }"""
    graph = graph_of(text)
    assert graph.nodes[0].outputs[0].dtype is None
    assert LegalizeDefaults().run(graph).changes == 0 and len(graph.nodes[1].inputs) == 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (HEAD11 + " g (float[1,N,1] x) => (float[N] y) { y = Squeeze (x) }", "'x' is not static"),
        (
            HEAD11 + " g (float[N,2] x) => (float[A,2] a, float[B,2] b) { a, b = Split (x) }",
            "along axis 0 is not static",
        ),
        (
            HEAD + " g (float[N,1,H,W] x, float[1,1,A,B] w) => (float[N,1,C,D] y) { y = Conv (x, w) }",
            "its kernel size is unknown",
        ),
        (
            HEAD
            + """ g (float[N,1,H,W] x, float[4] v, int64[r] s) => (float[N,1,C,D] y)
            { w = Reshape (v, s)  y = Conv (x, w) }""",
            "its kernel size is unknown",
        ),
    ],
)
def test_what_is_left_alone_says_why(text: str, reason: str) -> None:
    check_untouched(LegalizeDefaults(), text, reason)


def test_a_scalar_that_all_axes_give_is_left_alone() -> None:
    check_untouched(
        LegalizeDefaults(), HEAD11 + " g (float[N,3] x) => (float y) { y = ReduceMax <keepdims = 0> (x) }", None
    )


def test_a_reduction_of_unknown_rank_says_why() -> None:
    graph = graph_of(HEAD11 + "g (float[2,3] x) => (float[1,1] y) { r = Relu (x)  y = ReduceMax (r) }")
    graph.nodes[0].outputs[0].shape = None
    result = LegalizeDefaults().run(graph)
    assert "the rank of 'r' is unknown" in [skip.reason for skip in result.skips]
