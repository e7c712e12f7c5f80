from __future__ import annotations

import numpy as np
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


def test_training_mode_is_left_alone() -> None:
    body = "a = Conv (x, w)  b = Conv (x, k)  c = Concat <axis = 1> (a, b)  "
    node = "y, p, q = BatchNormalization <training_mode = 1> (c, s, t, m, v)"
    check_untouched(SplitBatchnorm(), text(body + node), "training mode")
