from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from segc.passes.cleanup.eliminate_common_subexpressions import EliminateCommonSubexpressions
from tests.helpers.checks import HEAD, check_pass, check_untouched, graph_of


def test_equal_nodes_become_one_and_so_do_those_that_read_them() -> None:
    check_pass(
        EliminateCommonSubexpressions(),
        HEAD
        + """g (float[N,4] x) => (float[N,4] y) {
            a = Relu (x)  b = Relu (x)  c = Neg (a)  d = Neg (b)  y = Add (c, d)
        }""",
        HEAD + "g (float[N,4] x) => (float[N,4] y) { a = Relu (x)  c = Neg (a)  y = Add (c, c) }",
        changes=2,
    )


def test_small_constants_are_compared_by_value() -> None:
    check_pass(
        EliminateCommonSubexpressions(),
        HEAD
        + """g (float[N] x) => (float[N] y) <float[1] p = {2}, float[1] q = {2}, float[1] r = {3}> {
            a = Mul (x, p)  b = Mul (x, q)  c = Mul (x, r)  d = Add (a, b)  y = Add (c, d)
        }""",
        HEAD
        + """g (float[N] x) => (float[N] y) <float[1] p = {2}, float[1] r = {3}> {
            a = Mul (x, p)  c = Mul (x, r)  d = Add (a, a)  y = Add (c, d)
        }""",
    )


def test_an_output_keeps_its_name_and_lends_it_to_its_equal() -> None:
    check_pass(
        EliminateCommonSubexpressions(),
        HEAD + "g (float[N] x) => (float[N] y, float[N] z) { a = Relu (x)  z = Neg (a)  y = Relu (x) }",
        HEAD + "g (float[N] x) => (float[N] y, float[N] z) { y = Relu (x)  z = Neg (y) }",
    )


def test_two_outputs_stay_two_nodes_and_say_why() -> None:
    text = HEAD + "g (float[N] x) => (float[N] y, float[N] z) { y = Relu (x)  z = Relu (x) }"
    check_untouched(EliminateCommonSubexpressions(), text, "both outputs")


def test_random_ops_are_never_equal() -> None:
    text = (
        HEAD + "g (float[N] x) => (float[N] y) { a = RandomNormalLike (x)  b = RandomNormalLike (x)  y = Sub (a, b) }"
    )
    check_untouched(EliminateCommonSubexpressions(), text, None)


def test_other_attributes_inputs_or_order_are_not_equal() -> None:
    text = (
        HEAD
        + """g (float[N,N] x, float[N,N] z) => (float[N,N] y) {
        a = Transpose <perm = [1, 0]> (x)  b = Transpose <perm = [0, 1]> (x)  c = Sub (a, z)  d = Sub (z, a)
        e = Add (b, c)  y = Add (d, e)
    }"""
    )
    check_untouched(EliminateCommonSubexpressions(), text, None)


def test_large_constants_are_equal_only_when_they_are_one_tensor() -> None:
    x, y = gs.Variable("x", np.float32, (1, 50)), gs.Variable("y", np.float32, (1, 50))
    a, b = gs.Variable("a", np.float32, (1, 50)), gs.Variable("b", np.float32, (1, 50))
    v, w = (gs.Constant(name, np.ones((50, 50), np.float32)) for name in "vw")
    add = gs.Node("Add", "add", {}, [a, b], [y])
    second = gs.Node("MatMul", "second", {}, [x, w], [b])
    graph = gs.Graph([gs.Node("MatMul", "first", {}, [x, v], [a]), second, add], [x], [y], opset=17)
    assert EliminateCommonSubexpressions().run(graph).changes == 0
    second.inputs = [x, v]
    assert EliminateCommonSubexpressions().run(graph).changes == 1
    assert [n.name for n in graph.nodes] == ["first", "add"]


def test_omitted_inputs_are_equal() -> None:
    check_pass(
        EliminateCommonSubexpressions(),
        HEAD + "g (float[N] x, float c) => (float[N] y) { a = Clip (x, , c)  b = Clip (x, , c)  y = Add (a, b) }",
        HEAD + "g (float[N] x, float c) => (float[N] y) { a = Clip (x, , c)  y = Add (a, a) }",
    )


@pytest.mark.parametrize(("second", "changes"), [("1.0", 1), ("2.0", 0)])
def test_tensors_as_attributes_are_compared_by_value(second: str, changes: int) -> None:
    nodes = f"""a = ConstantOfShape <value = float[1] {{1.0}}> (s)
        b = ConstantOfShape <value = float[1] {{{second}}}> (s)  y = Add (a, b)"""
    graph = graph_of(HEAD + f"g (int64[2] s) => (float[A,B] y) {{ {nodes} }}")
    assert EliminateCommonSubexpressions().run(graph).changes == changes


@pytest.mark.parametrize(("last", "changes"), [(0.0, 1), (1.0, 0)])
def test_large_arrays_as_attributes_are_compared_to_the_end(last: float, changes: int) -> None:
    """What NumPy prints of a large array leaves out the middle."""
    graph = graph_of(HEAD + "g (float[N] x) => (float[N] y) { a = Relu (x)  b = Relu (x)  y = Add (a, b) }")
    for node, middle in zip(graph.nodes, (0.0, last), strict=False):
        node.attrs["table"] = np.zeros(5000, np.float32)
        node.attrs["table"][2500] = middle
    assert EliminateCommonSubexpressions().run(graph).changes == changes
