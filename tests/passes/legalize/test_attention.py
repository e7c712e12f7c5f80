from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segc.passes.legalize.attention import LegalizeAttention
from segc.passes.support import evaluate
from tests.helpers.checks import check_pass, check_untouched, graph_of

HEAD = '<ir_version: 11, opset_import: ["" : 23]>'


def attention(
    q: str, k: str, v: str, out: str, attrs: str = "", mask: str = "", constants: str = "", name: str = "m"
) -> str:
    given_mask = f", {mask} m" if mask else ""
    used = f", {name}" if mask or constants else ""
    return (
        HEAD
        + f""" g (float[{q}] q, float[{k}] k, float[{v}] v{given_mask}) => (float[{out}] y) {constants}
        {{ y = Attention {attrs} (q, k, v{used}) }}"""
    )


FOUR = ("N,2,L,4", "N,2,S,4", "N,2,S,3", "N,2,L,3")
THREE = ("N,L,8", "N,S,8", "N,S,6", "N,L,6")
HEADS = "q_num_heads = 2, kv_num_heads = 2"


def test_heads_become_two_products_around_a_softmax() -> None:
    check_pass(
        LegalizeAttention(),
        attention(*FOUR),
        HEAD
        + """ g (float[N,2,L,4] q, float[N,2,S,4] k, float[N,2,S,3] v) => (float[N,2,L,3] y) <float y_scale = {0.5}>
        { y_scaled = Mul (q, y_scale)  y_turned = Transpose <perm = [0, 1, 3, 2]> (k)
          y_scores = MatMul (y_scaled, y_turned)  y_weights = Softmax <axis = -1> (y_scores)
          y = MatMul (y_weights, v) }""",
        atol=1e-5,
    )


def test_three_axes_are_cut_into_heads_and_put_together() -> None:
    graph = check_pass(LegalizeAttention(), attention(*THREE, f"<{HEADS}, scale = 0.3>"), None, atol=1e-5)
    assert [n.op for n in graph.nodes].count("MatMul") == 2


@pytest.mark.parametrize("mask", ["float[L,S]", "float[N,1,L,S]", "float[N,2,L,S]"])
def test_a_mask_of_floats_is_added(mask: str) -> None:
    check_pass(LegalizeAttention(), attention(*FOUR, mask=mask), None, atol=1e-5)


def test_constant_masks_and_causality() -> None:
    sizes = ("2,2,2,4", "2,2,3,4", "2,2,3,5", "2,2,2,5")
    graph = check_pass(
        LegalizeAttention(),
        attention(*sizes, "<is_causal = 1>", constants="<bool[2,3] m = {1, 0, 1, 1, 1, 1}>"),
        None,
        atol=1e-5,
    )
    (added,) = [n for n in graph.nodes if n.op == "Add"]
    assert added.inputs[1].values.tolist() == [[0, -np.inf, -np.inf], [0, 0, -np.inf]]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (attention(*FOUR, "<softcap = 2.0>"), "its softcap is 2"),
        (attention(*FOUR, "<softmax_precision = 1>"), "a softmax_precision"),
        (attention(*FOUR, mask="bool[L,S]"), "the boolean mask 'm' is computed at run time"),
        (attention("N,2,L,D", "N,2,S,D", "N,2,S,3", "N,2,L,3"), "axis 3 of 'q' is not static"),
        (attention("N,4,L,4", "N,2,S,4", "N,2,S,3", "N,4,L,3"), "4 heads of queries and 2 of keys"),
        (attention(*FOUR, "<is_causal = 1>"), "is not static"),
        (
            attention("1,1,2,4", "1,1,2,4", "1,1,2,4", "1,1,2,4", constants="<bool[2,2] m = {1, 0, 0, 0}>"),
            "its mask hides all of a row",
        ),
        (
            HEAD
            + """ g (float[1,2,3,4] q, float[1,2,3,4] p) => (float[1,2,3,4] y) { y = Attention (q, q, q, , p, p) }""",
            "it has past keys and values",
        ),
        (
            HEAD
            + """ g (float[1,2,3,4] q, float[1,2,3,4] p) => (float[1,2,3,4] y, float[1,2,6,4] a, float[1,2,6,4] b)
            { y, a, b = Attention (q, q, q, , p, p) }""",
            "it has a second output, 'a'",
        ),
    ],
)
def test_what_is_left_alone_says_why(text: str, reason: str) -> None:
    check_untouched(LegalizeAttention(), text, reason)


def test_a_graph_without_the_op_is_left_alone() -> None:
    check_untouched(LegalizeAttention(), HEAD + "g (float[N,6] x) => (float[N,6] y) { y = Relu (x) }", None)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 6), st.integers(1, 5), st.booleans())
def test_it_agrees_with_torch(heads: int, size: int, queries: int, keys: int, causal: bool) -> None:
    torch = pytest.importorskip("torch")
    shapes = [(2, heads, queries, size), (2, heads, keys, size), (2, heads, keys, size)]
    texts = [",".join(map(str, s)) for s in [*shapes, shapes[0]]]
    graph = graph_of(attention(texts[0], texts[1], texts[2], texts[3], f"<is_causal = {int(causal)}>"))
    assert LegalizeAttention().run(graph).changes == 1
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s).astype(np.float32) for s in shapes]
    want = torch.nn.functional.scaled_dot_product_attention(*map(torch.from_numpy, arrays), is_causal=causal)
    got = evaluate.outputs(graph, dict(zip("qkv", arrays, strict=True)))["y"]
    np.testing.assert_allclose(got, want.numpy(), atol=1e-5)


def test_inputs_of_three_axes_need_a_number_of_heads() -> None:
    graph = graph_of(attention(*THREE, f"<{HEADS}>"))
    del graph.nodes[0].attrs["q_num_heads"], graph.nodes[0].attrs["kv_num_heads"]
    result = LegalizeAttention().run(graph)
    assert (result.changes, [s.reason for s in result.skips]) == (0, ["its number of heads is unknown"])


def test_inputs_of_different_rank_are_left_alone() -> None:
    graph = graph_of(attention(*FOUR))
    graph.inputs[1].shape = ["N", "S", 8]
    result = LegalizeAttention().run(graph)
    assert (result.changes, [s.reason for s in result.skips]) == (0, ["its inputs have 4 and 3 and 4 axes"])
