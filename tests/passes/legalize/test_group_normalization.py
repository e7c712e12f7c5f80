from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segc.passes.legalize.group_normalization import LegalizeGroupNormalization, Lowering
from segc.passes.support import evaluate
from tests.helpers.checks import check_pass, check_untouched, graph_of

HEAD18 = '<ir_version: 9, opset_import: ["" : 18]>'
HEAD21 = '<ir_version: 10, opset_import: ["" : 21]>'


def norm(head: str, shape: str, weights: int, groups: int, kind: str = "float") -> str:
    return (
        head
        + f""" g ({kind}[{shape}] x, {kind}[{weights}] s, {kind}[{weights}] b) => ({kind}[{shape}] y)
        {{ y = GroupNormalization <num_groups = {groups}, epsilon = 0.001> (x, s, b) }}"""
    )


def test_a_scale_for_each_group_goes_into_the_instance_normalization() -> None:
    check_pass(
        LegalizeGroupNormalization(),
        norm(HEAD18, "2,6,3,5", 2, 2),
        HEAD18
        + """ g (float[2,6,3,5] x, float[2] s, float[2] b) => (float[2,6,3,5] y)
        <int64[3] y_groups_shape = {0, 2, -1}, int64[4] y_map_shape = {2, 6, 3, 5}>
        { y_groups = Reshape (x, y_groups_shape)
          y_normalized = InstanceNormalization <epsilon = 0.001> (y_groups, s, b)
          y = Reshape (y_normalized, y_map_shape) }""",
        atol=1e-5,
    )


def test_a_scale_for_each_channel_follows_from_opset_21_on() -> None:
    check_pass(
        LegalizeGroupNormalization(),
        norm(HEAD21, "N,4,3,5", 4, 2),
        HEAD21
        + """ g (float[N,4,3,5] x, float[4] s, float[4] b) => (float[N,4,3,5] y)
        <int64[3] y_groups_shape = {0, 2, -1}, int64[4] y_map_shape = {-1, 4, 3, 5}, float[2] y_ones = {1, 1},
         float[2] y_zeros = {0, 0}, int64[3] y_scale_shape = {-1, 1, 1}, int64[3] y_bias_shape = {-1, 1, 1}>
        { y_groups = Reshape (x, y_groups_shape)
          y_normalized = InstanceNormalization <epsilon = 0.001> (y_groups, y_ones, y_zeros)
          y_map = Reshape (y_normalized, y_map_shape)
          y_scale = Reshape (s, y_scale_shape)
          y_scaled = Mul (y_map, y_scale)
          y_bias = Reshape (b, y_bias_shape)
          y = Add (y_scaled, y_bias) }""",
        atol=1e-5,
    )


@pytest.mark.parametrize("lowering", ["instance", "means"])
@pytest.mark.parametrize(("head", "weights"), [(HEAD18, 3), (HEAD21, 6)])
@pytest.mark.parametrize("shape", ["2,6,3,5", "N,6,3,W", "N,6,H,W", "N,6,L", "2,6,H,W,2"])
def test_every_shape_and_spelling(lowering: Lowering, head: str, weights: int, shape: str) -> None:
    check_pass(LegalizeGroupNormalization(lowering), norm(head, shape, weights, 3), None, atol=1e-4)


def test_means_have_no_instance_normalization_and_half_precision_is_widened() -> None:
    text = norm(HEAD21, "2,6,3,5", 6, 3, "float16")
    graph = check_pass(LegalizeGroupNormalization("means"), text, None, atol=1e-2)
    assert "InstanceNormalization" not in {n.op for n in graph.nodes}
    assert [n.op for n in graph.nodes].count("Cast") == 2


def test_scales_of_the_other_opset_are_refused() -> None:
    check_untouched(LegalizeGroupNormalization(), norm(HEAD18, "2,6,3,5", 6, 3), "opset 18 requires 3 scales, it has 6")


def test_a_graph_without_the_op_is_left_alone() -> None:
    check_untouched(LegalizeGroupNormalization(), HEAD18 + "g (float[N,6] x) => (float[N,6] y) { y = Relu (x) }", None)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 4), st.integers(1, 4), st.integers(1, 7), st.integers(2, 7), st.sampled_from(["instance", "means"])
)
def test_it_agrees_with_torch(groups: int, each: int, height: int, width: int, lowering: Lowering) -> None:
    torch = pytest.importorskip("torch")
    channels = groups * each
    graph = graph_of(norm(HEAD21, f"2,{channels},{height},{width}", channels, groups))
    LegalizeGroupNormalization(lowering).run(graph)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, channels, height, width)).astype(np.float32)
    s, b = (rng.standard_normal(channels).astype(np.float32) for _ in range(2))
    want = torch.nn.functional.group_norm(*map(torch.from_numpy, (x,)), groups, *map(torch.from_numpy, (s, b)), 0.001)
    np.testing.assert_allclose(evaluate.outputs(graph, {"x": x, "s": s, "b": b})["y"], want.numpy(), atol=1e-4)
