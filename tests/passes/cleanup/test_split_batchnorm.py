from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from segc.passes.cleanup.fuse_conv_batchnorm import FuseConvBatchnorm
from segc.passes.cleanup.split_batchnorm import SplitBatchnorm
from segc.passes.support import evaluate
from tests.helpers.checks import HEAD20, apply, check_pass, check_untouched, graph_of

CONSTANTS = """<float[1,1,1,1] w = {2}, float[2,1,1,1] k = {4, 5}, float[3] s = {2, 0.5, 3}, float[3] t = {3, 4, 5},
    float[3] m = {1, 2, 3}, float[3] v = {1, 4, 9}>"""
BODY = "a = Conv (x, w)  b = Conv (x, k)  c = Concat <axis = 1> (a, b)  y = BatchNormalization (c, s, t, m, v)"


def text(nodes: str, y: str = "float[1,3,2,2] y") -> str:
    return f"{HEAD20} g (float[1,1,2,2] x) => ({y}) {CONSTANTS} {{ {nodes} }}"


def test_each_convolution_gets_the_constants_of_its_channels() -> None:
    check_pass(
        SplitBatchnorm(),
        text(BODY),
        f"""{HEAD20} g (float[1,1,2,2] x) => (float[1,3,2,2] y)
        <float[1,1,1,1] w = {{2}}, float[2,1,1,1] k = {{4, 5}},
         float[1] y_scale0 = {{2}}, float[1] y_shift0 = {{3}}, float[1] y_mean0 = {{1}}, float[1] y_var0 = {{1}},
         float[2] y_scale1 = {{0.5, 3}}, float[2] y_shift1 = {{4, 5}}, float[2] y_mean1 = {{2, 3}},
         float[2] y_var1 = {{4, 9}}> {{
        a = Conv (x, w)  y_part0 = BatchNormalization (a, y_scale0, y_shift0, y_mean0, y_var0)
        b = Conv (x, k)  y_part1 = BatchNormalization (b, y_scale1, y_shift1, y_mean1, y_var1)
        y = Concat <axis = 1> (y_part0, y_part1) }}""",
        atol=0,
    )


def test_the_parts_then_fold_into_the_weights() -> None:
    before = text(BODY)
    graph = check_pass(SplitBatchnorm(), before, None)
    x = {"x": np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)}
    expected = evaluate.outputs(graph_of(before), x)["y"]
    apply(FuseConvBatchnorm(), graph)
    assert sorted(node.op for node in graph.nodes) == ["Concat", "Conv", "Conv"]
    np.testing.assert_allclose(evaluate.outputs(graph, x)["y"], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        (BODY.replace("b = Conv (x, k)", "b0 = Conv (x, k)  b = Relu (b0)"), "'b' is not the output of a convolution"),
        (BODY.replace("a = Conv (x, w)", "a = Identity (x)"), "'a' is not"),
    ],
)
def test_what_would_not_fold_is_left_alone(nodes: str, why: str) -> None:
    check_untouched(SplitBatchnorm(), text(nodes), why)


def test_a_part_that_is_used_elsewhere_is_left_alone() -> None:
    check_untouched(
        SplitBatchnorm(), text(f"{BODY}  z = Relu (a)", "float[1,3,2,2] y, float[1,1,2,2] z"), "'a' is also used"
    )


def test_shared_weights_are_left_alone() -> None:
    shared = BODY.replace("b = Conv (x, k)", "b0 = Conv (x, k)  b = Conv <group = 2> (b0, k)")
    check_untouched(SplitBatchnorm(), text(shared), "computed, or shared")


def test_a_concat_along_another_axis_is_none_of_its_business() -> None:
    body = """g (float[1,2,2,1] x) => (float[1,2,2,2] y) <float[2] s = {1, 2}, float[2] t = {3, 4}> {
        c = Concat <axis = 3> (x, x)  y = BatchNormalization (c, s, t, s, s) }"""
    graph = graph_of(HEAD20 + body)
    result = apply(SplitBatchnorm(), graph)
    assert result.changes == 0 and not result.skips and len(graph.nodes) == 2


JOINED = BODY.partition("y =")[0]


@pytest.mark.parametrize(
    "node",
    [
        "y = BatchNormalization <training_mode = 1> (c, s, t, m, v)",
        "y, p, q = BatchNormalization <training_mode = 0> (c, s, t, m, v)",
        "y, p, q = BatchNormalization <training_mode = 1> (c, s, t, m, v)",
    ],
)
def test_training_mode_and_running_statistics_are_left_alone(node: str) -> None:
    check_untouched(SplitBatchnorm(), text(JOINED + node), "training mode")


def test_computed_statistics_and_weights_are_left_alone() -> None:
    computed = JOINED + "r = Relu (s)  y = BatchNormalization (c, r, t, m, v)"
    check_untouched(SplitBatchnorm(), text(computed), "the statistics are not constant")
    computed = BODY.replace("b = Conv (x, k)", "r = Relu (k)  b = Conv (x, r)")
    check_untouched(SplitBatchnorm(), text(computed), "the weights of 'b' are computed")


@pytest.mark.parametrize("also", ["a", "c"])
def test_a_part_or_a_whole_that_is_an_output_too_is_left_alone(also: str) -> None:
    shape = {"a": "float[1,1,2,2] a", "c": "float[1,3,2,2] c"}[also]
    check_untouched(SplitBatchnorm(), text(BODY, f"float[1,3,2,2] y, {shape}"), f"'{also}' is also used")


@pytest.mark.parametrize(
    "nodes",
    [
        "a = Conv (x, w)  b = Conv (x, k)  c = Concat <axis = 1> (a, b)  y = Relu (c)",
        "c = Conv (x, h)  y = BatchNormalization (c, s, t, m, v)",
        "y = BatchNormalization (x, one, one, one, one)",
    ],
    ids=["no BatchNormalization", "no Concat", "nothing before it"],
)
def test_other_patterns_are_none_of_its_business(nodes: str) -> None:
    more = text(nodes).replace(
        "<float[1,1,1,1] w", "<float[3,1,1,1] h = {1, 2, 3}, float[1] one = {1}, float[1,1,1,1] w"
    )
    check_untouched(SplitBatchnorm(), more.replace("float[1,3,2,2] y", "float[1,K,2,2] y"), None)


@pytest.mark.parametrize(("op", "skips"), [("BatchNormalization", 0), ("Concat", 0), ("Conv", 1)])
def test_nodes_of_another_domain_are_left_alone(op: str, skips: int) -> None:
    graph = graph_of(text(BODY))
    next(node for node in graph.nodes if node.op == op).domain = "other"
    result = SplitBatchnorm().run(graph)
    assert (result.changes, len(result.skips)) == (0, skips)


def test_an_input_of_the_graph_is_no_convolution() -> None:
    both = f"""{HEAD20} g (float[1,1,2,2] x, float[1,2,2,2] z) => (float[1,3,2,2] y) {CONSTANTS} {{
        a = Conv (x, w)  c = Concat <axis = 1> (a, z)  y = BatchNormalization (c, s, t, m, v) }}"""
    check_untouched(SplitBatchnorm(), both, "'z' is not the output of a convolution")


@pytest.mark.parametrize("shape", [None, (1, "K", 2, 2)])
def test_a_part_of_unknown_width_is_left_alone(shape: tuple[object, ...] | None) -> None:
    graph = graph_of(text(BODY))
    graph.nodes[0].outputs[0].shape = shape
    assert "the width of a part is unknown" in [skip.reason for skip in SplitBatchnorm().run(graph).skips]


def test_an_omitted_bias_is_no_computed_weight() -> None:
    graph = graph_of(text(BODY))
    graph.nodes[0].inputs.append(gs.Variable.empty())
    assert SplitBatchnorm().run(graph).changes == 1
