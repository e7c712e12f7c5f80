from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from segc.passes.cleanup.fold_constants import FoldConstants
from segc.passes.support import evaluate
from tests.helpers.checks import HEAD, check_pass, check_untouched, graph_of


def test_a_chain_of_constants_becomes_one() -> None:
    check_pass(
        FoldConstants(),
        HEAD
        + """g (float[N,2] x) => (float[N,3] y) <float[3,2] w = {1, 2, 3, 4, 5, 6}, float[1] c = {2}> {
            t = Transpose <perm = [1, 0]> (w)  m = Mul (t, c)  y = MatMul (x, m)
        }""",
        HEAD + "g (float[N,2] x) => (float[N,3] y) <float[2,3] m = {2, 6, 10, 4, 8, 12}> { y = MatMul (x, m) }",
        changes=2,
    )


def test_a_small_constant_is_not_blown_up() -> None:
    text = (
        HEAD
        + """g (float[1000,1000] x) => (float[1000,1000] y) <float[1] c = {2}, int64[2] s = {1000, 1000}> {
        e = Expand (c, s)  y = Mul (x, e)
    }"""
    )
    check_untouched(FoldConstants(), text, "grow by 3999980 bytes, more than the limit of 1048576")
    check_pass(FoldConstants(1 << 22), text, None)


def test_a_transposed_weight_frees_the_original_so_the_model_does_not_grow() -> None:
    weight = gs.Constant("w", np.zeros((1000, 600), np.float32))
    x, t = gs.Variable("x", np.float32, (1, 600)), gs.Variable("t", np.float32, (600, 1000))
    y, z = gs.Variable("y", np.float32, (1, 1000)), gs.Variable("z", np.float32, (1000, 1000))
    transpose = gs.Node("Transpose", "t", {"perm": [1, 0]}, [weight], [t])
    graph = gs.Graph([transpose, gs.Node("MatMul", "m", {}, [x, t], [y])], [x], [y], opset=17)
    shared = graph.copy()
    assert FoldConstants().run(graph).changes == 1
    shared.nodes.append(gs.Node("MatMul", "n", {}, [shared.tensors()["w"], shared.tensors()["t"]], [z]))
    shared.outputs.append(z)
    result = FoldConstants().run(shared)
    assert result.changes == 0 and "grow by 2400000 bytes" in result.skips[0].reason


def test_random_ops_are_left_alone() -> None:
    text = (
        HEAD + "g (float[N,2] x) => (float[N,2] y) <float[2] c = {1, 2}> { r = RandomNormalLike (c)  y = Add (x, r) }"
    )
    check_untouched(FoldConstants(), text, "RandomNormalLike is not folded")


def test_a_dequantized_weight_stays_quantized() -> None:
    text = (
        HEAD
        + """g (float[N,2] x) => (float[N,2] y) <int8[2] q = {1, 2}, float s = {0.5}> {
        w = DequantizeLinear (q, s)  y = Add (x, w)
    }"""
    )
    check_untouched(FoldConstants(), text, "DequantizeLinear is not folded")


def test_an_output_is_left_alone() -> None:
    text = HEAD + "g (float[N] x) => (float[N] y, float[2] z) <float[2] c = {1, 2}> { z = Neg (c)  y = Neg (x) }"
    check_untouched(FoldConstants(), text, "'z' is an output")


def test_what_the_runtime_refuses_is_left_alone() -> None:
    graph = graph_of(HEAD + "g (float[N,2] x) => (float[N,2] y) <float[2] c = {1, 2}> { n = Neg (c)  y = Add (x, n) }")
    graph.nodes[0].op = "NoSuchOp"
    result = FoldConstants().run(graph)
    assert result.changes == 0 and "ONNX Runtime cannot compute it" in result.skips[0].reason


def test_nodes_that_read_the_input_are_left_alone() -> None:
    check_untouched(
        FoldConstants(), HEAD + "g (float[N] x) => (float[N] y) <float[1] c = {1}> { y = Add (x, c) }", None
    )


def test_what_would_grow_is_not_even_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("computed")

    monkeypatch.setattr(evaluate, "by_runtime", refuse)
    text = HEAD + "g () => (float[1000,1000] y) <int64[2] s = {1000, 1000}> { e = ConstantOfShape (s)  y = Neg (e) }"
    check_untouched(FoldConstants(), text, "the model would grow by")


def test_what_grows_is_seen_where_the_shape_is_unknown_too() -> None:
    graph = graph_of(
        HEAD + "g () => (float[A,B] y) <int64[2] s = {1000, 1000}> { e = ConstantOfShape (s)  y = Neg (e) }"
    )
    graph.nodes[0].outputs[0].shape = None
    result = FoldConstants().run(graph)
    assert result.changes == 0 and "the model would grow by" in result.skips[0].reason


def test_nodes_of_another_domain_are_not_computed() -> None:
    graph = graph_of(HEAD + "g () => (float[1] y) <float[1] c = {2}> { e = Neg (c)  y = Abs (e) }")
    graph.nodes[0].domain = "other"
    result = FoldConstants().run(graph)
    assert (result.changes, result.skips) == (0, [])
