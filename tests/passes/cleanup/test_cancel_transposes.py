from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segc.passes.cleanup.cancel_transposes import CancelTransposes
from segc.passes.support.commute import compose, permuted
from tests.helpers.checks import HEAD, check_pass, check_untouched, graph_of

CONSTANTS = """<float half = {0.5}, float[3] row = {1, 2, 3}, float[4,5] m = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5,
    6, 7, 8, 9, 1, 2}, float[4] g = {1, 2, 3, 4}>"""


def text(nodes: str, y: str = "float[2,3,4] y", x: str = "float[2,3,4] x", head: str = HEAD) -> str:
    return f"{head} g ({x}) => ({y}) {CONSTANTS} {{ {nodes} }}"


def test_two_transposes_are_one() -> None:
    check_pass(
        CancelTransposes(),
        text("t = Transpose <perm = [1, 2, 0]> (x)  y = Transpose <perm = [0, 2, 1]> (t)", "float[3,2,4] y"),
        text("y = Transpose <perm = [1, 0, 2]> (x)", "float[3,2,4] y"),
    )


def test_a_transpose_and_its_inverse_go() -> None:
    check_pass(
        CancelTransposes(),
        text("r = Relu (x)  t = Transpose <perm = [1, 2, 0]> (r)  u = Transpose <perm = [2, 0, 1]> (t)  y = Neg (u)"),
        text("r = Relu (x)  y = Neg (r)"),
    )


def test_a_missing_perm_reverses() -> None:
    check_pass(
        CancelTransposes(),
        text("r = Relu (x)  t = Transpose (r)  u = Transpose (t)  y = Neg (u)"),
        text("r = Relu (x)  y = Neg (r)"),
    )


def test_an_output_keeps_its_name() -> None:
    check_pass(
        CancelTransposes(),
        text("r = Relu (x)  t = Transpose <perm = [1, 0, 2]> (r)  y = Transpose <perm = [1, 0, 2]> (t)"),
        text("y = Relu (x)"),
    )


@pytest.mark.parametrize(
    "middle",
    ["Relu (t)", "Mul (t, half)", "Sub (half, t)", "Clip (t, half)", "Cast <to = 1> (t)", "Gelu (t)", "LeakyRelu (t)"],
)
def test_what_works_by_element_does_not_keep_two_transposes_apart(middle: str) -> None:
    nodes = f"t = Transpose <perm = [1, 2, 0]> (x)  f = {middle}  y = Transpose <perm = [2, 0, 1]> (f)"
    graph = check_pass(CancelTransposes(), text(nodes, head=HEAD.replace("17", "20")), None)
    assert [n.op for n in graph.nodes] == [middle.split()[0]]


def test_a_constant_is_permuted_back() -> None:
    check_pass(
        CancelTransposes(),
        text("t = Transpose <perm = [0, 2, 1]> (x)  f = Add (t, row)  y = Transpose <perm = [0, 2, 1]> (f)"),
        HEAD
        + """ g (float[2,3,4] x) => (float[2,3,4] y) <float[1,3,1] f_permuted = {1, 2, 3}>
        { y = Add (x, f_permuted) }""",
    )


def test_softmax_takes_its_axis_along() -> None:
    check_pass(
        CancelTransposes(),
        text("t = Transpose <perm = [1, 2, 0]> (x)  f = Softmax <axis = -1> (t)  y = Transpose <perm = [2, 0, 1]> (f)"),
        text("y = Softmax <axis = 0> (x)"),
        atol=1e-6,
    )


def test_rows_are_multiplied_and_normalised_wherever_they_lie() -> None:
    nodes = """t = Transpose <perm = [1, 0, 2]> (x)  n = LayerNormalization (t, g, g)  f = MatMul (n, m)
        y = Transpose <perm = [1, 0, 2]> (f)"""
    graph = check_pass(CancelTransposes(), text(nodes, "float[2,3,5] y"), None, atol=1e-5)
    assert [n.op for n in graph.nodes] == ["LayerNormalization", "MatMul"]


def test_all_users_must_agree_or_cancel() -> None:
    nodes = """t = Transpose <perm = [1, 0, 2]> (x)  a = Relu (t)  y = Transpose <perm = [1, 0, 2]> (a)
        b = Neg (t)  z = Transpose <perm = [2, 1, 0]> (b)"""
    graph = check_pass(CancelTransposes(), text(nodes, "float[2,3,4] y, float[4,2,3] z"), None, changes=2)
    assert sorted(n.op for n in graph.nodes) == ["Neg", "Relu", "Transpose"]


def test_a_pair_that_cancels_does_so_beside_another_user() -> None:
    nodes = """t = Transpose <perm = [1, 0, 2]> (x)  a = Relu (t)  b = Transpose <perm = [1, 0, 2]> (a)  y = Abs (b)
        z = Neg (t)"""
    graph = check_pass(CancelTransposes(), text(nodes, "float[2,3,4] y, float[3,2,4] z"), None)
    assert sorted(n.op for n in graph.nodes) == ["Abs", "Neg", "Relu", "Transpose"]


@pytest.mark.parametrize("op", ["Add", "Mul", "Concat <axis = -1>"])
def test_operands_transposed_alike_are_transposed_once(op: str) -> None:
    size = 4 if "Concat" in op else 2
    nodes = f"a = Transpose <perm = [1, 2, 0]> (x)  b = Transpose <perm = [1, 2, 0]> (z)  y = {op} (a, b)"
    graph = check_pass(CancelTransposes(), text(nodes, f"float[3,4,{size}] y", "float[2,3,4] x, float[2,3,4] z"), None)
    assert [n.op for n in graph.nodes] == [op.split()[0], "Transpose"]


@pytest.mark.parametrize(
    ("nodes", "y", "reason"),
    [
        (
            "t = Transpose <perm = [1, 0, 2]> (x)  a = Relu (t)  y = Transpose <perm = [2, 1, 0]> (a)  z = Neg (t)",
            "float[4,2,3] y, float[3,2,4] z",
            "'t' is also used by nodes that need it transposed",
        ),
        (
            "t = Transpose <perm = [1, 0, 2]> (x)  u = Transpose <perm = [1, 0, 2]> (x)  y = Add (t, u)  z = Neg (t)",
            "float[3,2,4] y, float[3,2,4] z",
            "also used elsewhere",
        ),
        (
            "t = Transpose <perm = [1, 0, 2]> (x)  y = Transpose <perm = [1, 0, 2]> (t)",
            "float[2,3,4] y",
            "'y' is an output, and its value would be an input",
        ),
    ],
)
def test_where_nothing_is_gained_the_reason_is_given(nodes: str, y: str, reason: str) -> None:
    check_untouched(CancelTransposes(), text(nodes, y), reason)


@pytest.mark.parametrize(
    ("nodes", "y"),
    [
        ("t = Transpose <perm = [0, 2, 1]> (x)  f = Softmax (t)  y = Identity (f)", "float[2,4,3] y"),
        (
            "t = Transpose <perm = [2, 1, 0]> (x)  f = CumSum (t, i)  y = Transpose <perm = [2, 1, 0]> (f)",
            "float[2,3,4] y",
        ),
        (
            "t = Transpose <perm = [1, 0, 2]> (x)  f = Relu (t)  y = Transpose (f)  z = Neg (f)",
            "float[4,2,3] y, float[3,2,4] z",
        ),
        (
            "t = Transpose <perm = [1, 2, 0]> (x)  u = Transpose <perm = [1, 2, 0]> (x)  y = MatMul (t, u)",
            "float[3,4,2] y",
        ),
        (
            "t = Transpose <perm = [0, 2, 1]> (x)  f = MatMul (t, r)  y = Transpose <perm = [0, 2, 1]> (f)",
            "float[2,5,4] y",
        ),
    ],
)
def test_what_does_not_commute_stays(nodes: str, y: str) -> None:
    constants = CONSTANTS.replace("<float", "<int64 i = {0}, float[3,5] r = {1,2,3,4,5,6,7,8,9,1,2,3,4,5,6}, float", 1)
    if "MatMul (t, u)" in nodes:
        nodes = nodes.replace("u = Transpose <perm = [1, 2, 0]> (x)", "u = Relu (s)")
        whole = f"{HEAD} g (float[2,3,4] x, float[2,2] s) => ({y}) {constants} {{ {nodes} }}"
    else:
        whole = f"{HEAD} g (float[2,3,4] x) => ({y}) {constants} {{ {nodes} }}"
    check_untouched(CancelTransposes(), whole, None)


def test_old_softmax_flattens_and_stays() -> None:
    nodes = "t = Transpose <perm = [1, 2, 0]> (x)  f = Softmax <axis = 2> (t)  y = Transpose <perm = [2, 0, 1]> (f)"
    check_untouched(CancelTransposes(), text(nodes, head=HEAD.replace("17", "11")), None)


PERMS = [list(p) for n in range(1, 5) for p in itertools.permutations(range(n))]


def cube(dims: int) -> np.ndarray:
    """120 numbers, all different, of `dims` dimensions."""
    return np.arange(120).reshape(*[2, 3, 4, 5][: dims - 1], -1)


@given(st.data(), st.sampled_from(PERMS))
def test_composing_agrees_with_numpy(data: st.DataObject, first: list[int]) -> None:
    then = data.draw(st.permutations(range(len(first))))
    x = cube(len(first))
    np.testing.assert_array_equal(x.transpose(compose(first, then)), x.transpose(first).transpose(then))


@given(st.data(), st.sampled_from(PERMS))
def test_a_permuted_constant_does_the_same_before_the_transpose(data: st.DataObject, order: list[int]) -> None:
    x = cube(len(order))
    tail = data.draw(st.integers(0, len(order)))
    shape = [s if data.draw(st.booleans()) else 1 for s in x.transpose(order).shape[len(order) - tail :]]
    c = np.arange(int(np.prod(shape))).reshape(shape) + 1
    np.testing.assert_array_equal((x * permuted(c, order)).transpose(order), x.transpose(order) * c)


def test_products_of_two_transposed_matrices_stay() -> None:
    nodes = "a = Transpose <perm = [1, 0]> (x)  b = Transpose <perm = [1, 0]> (z)  y = MatMul (a, b)"
    check_untouched(CancelTransposes(), text(nodes, "float[3,3] y", "float[3,3] x, float[3,3] z"), None)


def test_one_operand_that_is_read_twice_stays() -> None:
    nodes = "a = Transpose <perm = [1, 0, 2]> (x)  y = Add (a, a)"
    check_untouched(CancelTransposes(), text(nodes, "float[3,2,4] y"), None)


SUM = "a = Transpose <perm = [1, 0, 2]> (x)  b = Transpose <perm = [1, 0, 2]> (z)  y = Add (a, b)"
BOTH = "float[2,3,4] x, float[2,3,4] z"


@pytest.mark.parametrize(("unknown", "changes"), [("y", 1), ("a", 0)])
def test_an_unknown_shape_stays_unknown_and_an_operand_needs_a_rank(unknown: str, changes: int) -> None:
    graph = graph_of(text(SUM, "float[3,2,4] y", BOTH))
    graph.tensors()[unknown].shape = None
    assert CancelTransposes().run(graph).changes == changes
    if changes:
        assert next(n for n in graph.nodes if n.op == "Add").outputs[0].shape is None


def test_a_chain_of_unknown_shape_stays() -> None:
    graph = graph_of(text("a = Transpose <perm = [1, 0, 2]> (x)  r = Relu (a)  y = Transpose <perm = [1, 0, 2]> (r)"))
    graph.tensors()["r"].shape = None
    assert CancelTransposes().run(graph).changes == 0
