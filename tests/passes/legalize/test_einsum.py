from __future__ import annotations

import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segc.graph import ir
from segc.passes.legalize.einsum import LegalizeEinsum, groups, parse
from segc.passes.support import evaluate
from segc.passes.support.builder import RewriteNotApplicable
from tests.helpers.checks import HEAD, HEAD20, check_pass, check_untouched, graph_of

# Every equation in the models of mmseg 1.2.2 and mmcv 2.1.0.
ZOO = [
    ("bnhw,bchw->bnc", "2,5,3,4", "2,6,3,4", "2,5,6"),  # knet_head.py
    ("bnc,bcl->bnl", "2,5,3", "2,3,4", "2,5,4"),  # knet_head.py, in a comment
    ("bqc, bqhw->bchw", "2,5,3", "2,5,4,6", "2,3,4,6"),  # mask2former_head.py, maskformer_head.py, san_head.py
    ("bqc,bchw->bqhw", "2,5,3", "2,3,4,6", "2,5,4,6"),  # san_head.py
    ("bqc,blnchw->blnqhw", "2,5,3", "2,2,4,3,5,6", "2,2,4,5,5,6"),  # san_head.py
    ("bqc,nc->bqn", "2,5,3", "4,3", "2,5,4"),  # san_head.py
    ("bcn,bck->bnk", "2,3,4", "2,3,5", "2,4,5"),  # ema_head.py
    ("bcn,bnk->bck", "2,3,4", "2,4,5", "2,3,5"),  # ema_head.py
    ("bck,bnk->bcn", "2,3,5", "2,4,5", "2,3,4"),  # ema_head.py
    ("bchw,bciw->bwhi", "2,3,4,5", "2,3,6,5", "2,5,4,6"),  # cc_attention.py
    ("bchw,bchj->bhwj", "2,3,4,5", "2,3,4,6", "2,4,5,6"),  # cc_attention.py
    ("bciw,bhwi->bchw", "2,3,6,5", "2,4,5,6", "2,3,4,5"),  # cc_attention.py
    ("bchj,bhwj->bchw", "2,3,4,6", "2,4,5,6", "2,3,4,5"),  # cc_attention.py
    ("nc,mc->nm", "4,3", "5,3", "4,5"),  # match_cost.py
    ("bxy, bxy->bxy", "2,3,4", "2,3,4", "2,3,4"),  # huasdorff_distance_loss.py
]
OTHERS = [
    ("...ij,...jk->...ik", "2,1,3,4", "2,5,4,6", "2,5,3,6"),
    ("...i,...j", "2,3", "1,4", "2,3,4"),
    ("b...c,c->b...", "2,3,4,5", "5", "2,3,4"),
    ("ij,jk", "3,4", "4,5", "3,5"),
    ("ab,ac->ba", "2,3", "2,4", "3,2"),
    ("i,j->ji", "3", "4", "4,3"),
    ("i,i->", "3", "3", ""),
    ("abc,cab->b", "2,3,4", "4,2,3", "3"),
    ("ab,b->a", "2,3", "3", "2"),
    ("abx,b->a", "2,3,4", "3", "2"),
]


def product(equation: str, a: str, b: str, out: str, head: str = HEAD) -> str:
    kinds = [f"float[{shape}]" if shape else "float" for shape in (a, b, out)]
    return (
        head
        + f""" g ({kinds[0]} a, {kinds[1]} b) => ({kinds[2]} y)
        {{ y = Einsum <equation = "{equation}"> (a, b) }}"""
    )


def renamed(equation: str, a: str, b: str, out: str) -> tuple[str, str, str]:
    """The same shapes with a symbol for each letter, all dynamic."""
    terms, result = equation.replace(" ", "").split("->")
    left, right = terms.split(",")
    return ",".join(left.upper()), ",".join(right.upper()), ",".join(result.upper())


def test_heads_of_queries_become_one_matmul_between_reshapes() -> None:
    check_pass(
        LegalizeEinsum(),
        product("bqc,bqhw->bchw", "2,5,3", "2,5,4,6", "2,3,4,6"),
        HEAD
        + """ g (float[2,5,3] a, float[2,5,4,6] b) => (float[2,3,4,6] y)
        <int64[3] y_b_flat_shape = {2, 5, 24}, int64[4] y_apart_shape = {2, 3, 4, 6}>
        { y_a_order = Transpose <perm = [0, 2, 1]> (a)
          y_b_flat = Reshape (b, y_b_flat_shape)
          y_product = MatMul (y_a_order, y_b_flat)
          y = Reshape (y_product, y_apart_shape) }""",
        atol=1e-5,
    )


def test_one_batch_size_may_be_dynamic_without_computing_shapes() -> None:
    check_pass(
        LegalizeEinsum(),
        product("bnhw,bchw->bnc", "N,5,3,4", "N,6,3,4", "N,5,6"),
        HEAD
        + """ g (float[N,5,3,4] a, float[N,6,3,4] b) => (float[N,5,6] y)
        <int64[3] y_a_flat_shape = {-1, 5, 12}, int64[3] y_b_flat_shape = {-1, 12, 6}>
        { y_a_flat = Reshape (a, y_a_flat_shape)  y_b_order = Transpose <perm = [0, 2, 3, 1]> (b)
          y_b_flat = Reshape (y_b_order, y_b_flat_shape)
          y = MatMul (y_a_flat, y_b_flat) }""",
        atol=1e-5,
    )


def test_the_left_letters_need_no_reshape_without_batch() -> None:
    graph = check_pass(LegalizeEinsum(), product("bqc,nc->bqn", "B,Q,3", "4,3", "B,Q,4"), None, atol=1e-5)
    assert [n.op for n in graph.nodes] == ["Transpose", "MatMul"]


def test_without_sums_there_is_only_a_product() -> None:
    check_pass(
        LegalizeEinsum(),
        product("i,j->ji", "N", "M", "M,N"),
        HEAD
        + """ g (float[N] a, float[M] b) => (float[M,N] y) <int64[1] y_a_wide_axes = {0}, int64[1] y_b_wide_axes = {1}>
        { y_a_wide = Unsqueeze (a, y_a_wide_axes)  y_b_wide = Unsqueeze (b, y_b_wide_axes)
          y = Mul (y_a_wide, y_b_wide) }""",
        atol=0,
    )


def test_one_operand_is_a_sum_and_a_transpose() -> None:
    check_pass(
        LegalizeEinsum(),
        HEAD + """ g (float[A,B,C] x) => (float[C,A] y) { y = Einsum <equation = "abc->ca"> (x) }""",
        HEAD
        + """ g (float[A,B,C] x) => (float[C,A] y) <int64[1] y_sum_axes = {1}>
        { y_sum = ReduceSum <keepdims = 0> (x, y_sum_axes)  y = Transpose <perm = [1, 0]> (y_sum) }""",
        atol=1e-5,
    )


@pytest.mark.parametrize(("equation", "a", "b", "out"), [*ZOO, *OTHERS])
def test_equations_of_static_sizes(equation: str, a: str, b: str, out: str) -> None:
    check_pass(LegalizeEinsum(), product(equation, a, b, out), None, atol=2e-5)


@pytest.mark.parametrize(("equation", "a", "b", "out"), ZOO)
def test_equations_of_dynamic_sizes(equation: str, a: str, b: str, out: str) -> None:
    check_pass(LegalizeEinsum(), product(equation, *renamed(equation, a, b, out), HEAD20), None, atol=2e-4)


def test_integers_too() -> None:
    text = product("bchw,bciw->bwhi", "2,3,4,5", "2,3,6,5", "2,5,4,6").replace("float[", "int64[")
    check_pass(LegalizeEinsum(), text, None)


@pytest.mark.parametrize(
    ("equation", "a", "b", "out", "reason"),
    [
        ("ii,ij->j", "3,3", "3,4", "4", "repeats a letter within one operand"),
        ("...i,i->i", "2,3", "3", "3", "sums over its ellipsis"),
        ("ij,jk->ik", "3,1", "4,5", "3,5", "letter 'j' is 1 in one operand and 4 in the other"),
    ],
)
def test_what_is_not_expanded_says_why(equation: str, a: str, b: str, out: str, reason: str) -> None:
    check_untouched(LegalizeEinsum(), product(equation, a, b, out), reason)


def test_three_operands_are_left_alone() -> None:
    check_untouched(
        LegalizeEinsum(),
        HEAD
        + """ g (float[2,3] a, float[3,4] b, float[4,5] c) => (float[2,5] y)
        { y = Einsum <equation = "ij,jk,kl->il"> (a, b, c) }""",
        "it has 3 operands",
    )


def test_equations_that_do_not_fit_are_refused() -> None:
    for equation, ranks, reason in [
        ("ij->i", [2, 2], "has 1 operands, the node 2"),
        ("ij,j->i", [3, 1], "does not fit ranks"),
        ("ij,j->k", [2, 1], "in the result only"),
    ]:
        with pytest.raises(RewriteNotApplicable, match=reason):
            parse(equation, ranks)


@st.composite
def equations(draw: st.DrawFn) -> tuple[str, dict[str, int]]:
    letters = draw(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=5, unique=True))
    sizes = {c: draw(st.integers(1, 4)) for c in letters}
    terms = [draw(st.permutations(letters))[: draw(st.integers(0, len(letters)))] for _ in range(2)]
    used = sorted(set(terms[0] + terms[1]))
    result = draw(st.permutations(used))[: draw(st.integers(0, len(used)))]
    return ",".join("".join(t) for t in terms) + "->" + "".join(result), sizes


@settings(max_examples=250, deadline=None)
@given(equations(), st.booleans())
def test_random_equations_agree_with_numpy(drawn: tuple[str, dict[str, int]], static: bool) -> None:
    equation, sizes = drawn
    terms, result = equation.split("->")
    shapes = [[sizes[c] for c in term] for term in terms.split(",")]
    given_shapes = [",".join(str(sizes[c]) if static else c.upper() for c in t) for t in [*terms.split(","), result]]
    graph = graph_of(product(equation, *given_shapes))
    assert LegalizeEinsum().run(graph).changes == 1
    graph.cleanup().toposort()
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-8, 8, shape).astype(np.float32) for shape in shapes)
    got = evaluate.outputs(graph, {"a": a, "b": b})["y"]
    np.testing.assert_array_equal(got, np.einsum(equation, a, b))


@given(equations())
def test_groups_cover_each_letter_once(drawn: tuple[str, dict[str, int]]) -> None:
    terms, result = drawn[0].split("->")
    a, b = terms.split(",")
    kept = ["".join(c for c in t if c in result or c in other) for t, other in ((a, b), (b, a))]
    parts = groups(kept[0], kept[1], result)
    every = parts.batch + parts.left + parts.right + parts.inner
    assert sorted(every) == sorted(set(kept[0] + kept[1])) and set(every) <= set(string.ascii_letters)


def test_sizes_that_differ_in_name_may_be_equal() -> None:
    text = HEAD + ' g (float[2,J] x, float[3,4] z) => (float[2,4] y) { y = Einsum <equation = "ij,jk->ik"> (x, z) }'
    graph = graph_of(text)
    assert LegalizeEinsum().run(graph).changes == 1
    x, z = (np.arange(n, dtype=np.float32).reshape(shape) for n, shape in ((6, (2, 3)), (12, (3, 4))))
    np.testing.assert_array_equal(evaluate.outputs(ir.cleanup(graph), {"x": x, "z": z})["y"], x @ z)
