"""The clean-up stage as a whole: it finds by itself what onnxsim would and reaches its end in one go."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnx.checker
import onnx_graphsurgeon as gs
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_graphsurgeon.ir.tensor import LazyValues

from segc.graph import ir
from segc.passes.cleanup.simplify import Simplify
from segc.pipeline import stages
from segc.pipeline.pipeline import Pipeline
from tests.helpers.checks import HEAD, check_numbers, graph_of, text_of
from tests.helpers.random_movement import grown

ATTENTION = (
    HEAD
    + """g (float[1,5,8] x) => (float[1,5,8] y) <float[8] one = {1, 2, 3, 4, 5, 6, 7, 8},
    float[8] none = {0, 0, 0, 0, 0, 0, 0, 0}, float[8,8] w = {W}, int64[3] heads = {5, 2, 4}, int64[2] rows = {5, 8},
    int64[3] back = {5, 1, 8}, int64[1] first = {0}, float c = {0.5}> {
    n = LayerNormalization (x, one, none)  t = Transpose <perm = [1, 0, 2]> (n)
    q0 = MatMul (t, w)  q1 = Add (q0, one)  q2 = Reshape (q1, heads)  q3 = Transpose <perm = [1, 0, 2]> (q2)
    k0 = MatMul (t, w)  k1 = Add (k0, none)  k2 = Reshape (k1, heads)  k3 = Transpose <perm = [1, 2, 0]> (k2)
    s = Mul (q3, c)  m = MatMul (s, k3)  p = Softmax (m)  v = MatMul (p, q3)  o = Transpose <perm = [1, 0, 2]> (v)
    o1 = Reshape (o, rows)  o2 = MatMul (o1, w)  o3 = Add (o2, one)  o4 = Reshape (o3, back)
    o5 = Transpose <perm = [1, 0, 2]> (o4)  y = Add (x, o5) }""".replace("{W}", f"{{{', '.join(map(str, range(64)))}}}")
)


def clean() -> Pipeline:
    return Pipeline("clean", tuple(make() for make in stages.CLEAN))


def test_onnxsim_finds_nothing_in_attention_that_was_cleaned_up() -> None:
    before, graph = graph_of(ATTENTION), graph_of(ATTENTION)
    clean().run(graph)
    assert (len(before.nodes), len(graph.nodes)) == (21, 17)
    check_numbers(before, graph, atol=1e-4)
    assert Simplify().run(graph).changes == 0


def test_the_stage_reaches_its_end_in_one_go() -> None:
    graph = graph_of(ATTENTION)
    clean().run(graph)
    printed = text_of(graph)
    assert [r.changes for r in clean().run(graph)] == [0] * len(stages.CLEAN)
    assert text_of(graph) == printed


def test_the_model_does_not_grow() -> None:
    graph = graph_of(ATTENTION)
    before = ir.to_model(graph).ByteSize()
    clean().run(graph)
    assert ir.to_model(graph).ByteSize() < before


class Unread(LazyValues):  # type: ignore[misc]
    """Weights on a disk that nobody may touch."""

    def __init__(self, *shape: int) -> None:
        self.dtype, self.shape, self.itemsize, self.nbytes = np.dtype(np.float32), list(shape), 4, 4 * math.prod(shape)

    def load(self) -> np.ndarray:
        raise AssertionError("a pass has read the weights")


def test_weights_are_not_read_where_nothing_is_fused() -> None:
    x = gs.Variable("x", np.float32, (1, 300, 300))
    nodes, last = [], x
    for at in range(30):
        sum_, y = (gs.Variable(f"{what}{at}", np.float32, (1, 300, 300)) for what in "ab")
        weight = gs.Constant(f"w{at}", Unread(300, 300))
        nodes.append(gs.Node(("Add", "MatMul", "Mul")[at % 3], f"n{at}", {}, [last, weight], [sum_]))
        nodes.append(gs.Node("Relu", f"relu{at}", {}, [sum_], [y]))
        last = y
    graph = gs.Graph(nodes, [x], [last], opset=17, ir_version=9)
    assert [r.changes for r in clean().run(graph)] == [0] * len(stages.CLEAN)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 1 << 32))
def test_random_graphs_keep_their_numbers_and_do_not_grow(seed: int) -> None:
    before, graph = grown(seed), grown(seed)
    clean().run(graph)
    assert len(graph.nodes) <= len(before.nodes)
    assert [t.name for t in graph.outputs] == [t.name for t in before.outputs]
    onnx.checker.check_model(ir.to_model(graph), full_check=True)
    check_numbers(before, graph, atol=1e-5)
