from __future__ import annotations

import pytest

from segc.passes.cleanup.drop_expand import DropExpand
from tests.helpers.checks import HEAD, check_pass, check_untouched

INPUTS = "float[1,H,1] x, float[1,H,W] y"


def text(nodes: str, inputs: str = INPUTS, output: str = "float[1,H,W] z") -> str:
    return f"{HEAD} g ({inputs}) => ({output}) <float eps = {{0.01}}> {{ {nodes} }}"


def test_normalized_rows_are_divided_by_their_norms_as_they_are() -> None:
    """torch.nn.functional.normalize, as torch.onnx writes it."""
    head = f"{HEAD} g (float[1,H,W] y) => (float[1,H,W] z) <float eps = {{0.01}}>"
    norms = "n = ReduceL2<axes = [2], keepdims = 1>(y)  c = Max(n, eps)"
    check_pass(
        DropExpand(),
        f"{head} {{ {norms}  s = Shape(y)  e = Expand(c, s)  z = Div(y, e) }}",
        f"{head} {{ {norms}  z = Div(y, c) }}",
    )


@pytest.mark.parametrize("op", ["Sub", "Max", "Pow"])
@pytest.mark.parametrize("order", ["e, y", "y, e"])
def test_operands_keep_their_order(op: str, order: str) -> None:
    graph = check_pass(DropExpand(), text(f"s = Shape(y)  a = Abs(x)  e = Expand(a, s)  z = {op}({order})"), None)
    operands = next(node for node in graph.nodes if node.op == op).inputs
    assert [t.name for t in operands] == order.replace("e", "a").split(", ")


def test_numbers_count_as_names_do() -> None:
    check_pass(
        DropExpand(),
        text("s = Shape(y)  e = Expand(x, s)  z = Mul(e, y)", "float[3,1] x, float[2,3,4] y", "float[2,3,4] z"),
        text("z = Mul(x, y)", "float[3,1] x, float[2,3,4] y", "float[2,3,4] z"),
    )


def test_a_choice_broadcasts_too() -> None:
    inputs = "bool[1,H,1] b, float[1,H,W] y"
    check_pass(
        DropExpand(),
        text("s = Shape(y)  e = Expand(b, s)  z = Where(e, y, eps)", inputs),
        text("z = Where(b, y, eps)", inputs),
    )


def test_of_two_expanded_operands_one_stays() -> None:
    graph = check_pass(
        DropExpand(),
        text("s = Shape(y)  d = Expand(x, s)  e = Expand(x, s)  z = Add(d, e)"),
        None,
    )
    assert sorted(node.op for node in graph.nodes) == ["Add", "Expand", "Shape"]


def test_other_readers_keep_the_expand() -> None:
    graph = check_pass(
        DropExpand(),
        text(
            "s = Shape(y)  e = Expand(x, s)  m = Mul(e, y)  c = Concat<axis = 0>(e, e)  p = ReduceSum(c)  z = Add(m, p)"
        ),
        None,
    )
    assert sorted(node.op for node in graph.nodes) == ["Add", "Concat", "Expand", "Mul", "ReduceSum", "Shape"]


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ("s = Shape(y)  e = Expand(x, s)  z = Mul(e, x)", "no other operand"),
        ("s = Shape(y)  e = Expand(x, s)  z = Mul(e, e)", "no other operand"),
        ("s = Shape(y)  e = Expand(x, s)  z = Mul(e, eps)", "no other operand"),
        ("s = Shape(y)  z = Expand(x, s)", None),
        ("s = Shape(y)  e = Expand(x, s)  z = Softmax(e)", None),
    ],
)
def test_stays_where_the_result_would_shrink(nodes: str, reason: str | None) -> None:
    check_untouched(DropExpand(), text(nodes), reason)
