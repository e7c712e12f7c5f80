from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from segc.passes.base import PassResult
from segc.passes.support import evaluate
from segc.passes.support.builder import Builder, RewriteNotApplicable, resolve, rewrite, standard
from segc.passes.support.edit import Names
from tests.helpers.checks import HEAD, graph_of

TEXT = HEAD + "g (float[N,C,H,W] x) => (float[N,C,H,W] y) { y = Relu (x) }"


def builder(graph: gs.Graph) -> Builder:
    return Builder(graph, graph.nodes[0], Names(graph))


def test_several_unknown_sizes_are_computed_and_one_is_left_to_reshape() -> None:
    graph = graph_of(TEXT.replace("float[N,C,H,W] y", "float[A,B,2] y").replace("C,H", "6,H"))

    def spell(b: Builder) -> gs.Tensor:
        x = b.node.inputs[0]
        return b.reshape("out", x, [[(x, 0), (x, 2)], [(x, 3), 3], 2])

    assert rewrite(graph, standard(graph, "Relu"), spell, PassResult()).changes == 1
    x = np.arange(2 * 6 * 5 * 7, dtype=np.float32).reshape(2, 6, 5, 7)
    got = evaluate.outputs(graph.cleanup().toposort(), {"x": x})["y"]
    np.testing.assert_array_equal(got, x.reshape(10, 21, 2))
    assert {n.op for n in graph.nodes} == {"Shape", "Gather", "Mul", "Concat", "Reshape"}


def test_known_factors_are_multiplied() -> None:
    x = gs.Variable("x", np.float32, ["N", 3, 4])
    assert resolve([(x, 1), (x, 2), 2]) == 24
    assert resolve([]) == 1
    assert resolve([(x, 0), (x, 1)]) == [(x, 0), 3]
    assert resolve([(x, 0)]) == [(x, 0)]


def test_a_site_that_cannot_be_spelled_leaves_no_trace() -> None:
    graph = graph_of(TEXT)

    def spell(b: Builder) -> gs.Tensor:
        b.op("Neg", "negative", b.op("Exp", "power", b.node.inputs[0]))
        raise RewriteNotApplicable("it is not to be")

    result = rewrite(graph, standard(graph, "Relu"), spell, PassResult())
    assert (result.changes, [s.reason for s in result.skips]) == (0, ["it is not to be"])
    assert len(graph.nodes) == 1 and len(graph.inputs[0].outputs) == 1


@pytest.mark.parametrize("opset", [11, 13, 18, 20])
def test_each_opset_gets_its_spelling_and_every_tensor_its_type_and_shape(opset: int) -> None:
    graph = graph_of(TEXT.replace(": 17", f": {opset}"))
    b = builder(graph)
    x = b.node.inputs[0]
    mean = b.reduce("ReduceMean", "mean", x, [2, 3], keepdims=False)
    whole = b.reduce("ReduceSum", "sum", b.unsqueeze("wide", mean, [2, 3]), [2])
    narrow = b.squeeze("narrow", whole, [2, 3])
    assert [list(t.shape) for t in (mean, whole, narrow)] == [["N", "C"], ["N", "C", 1, 1], ["N", "C"]]
    inputs = {n.op: len(n.inputs) for n in b.nodes}
    assert inputs["ReduceMean"] == (2 if opset >= 18 else 1)
    assert inputs["ReduceSum"] == inputs["Squeeze"] == (2 if opset >= 13 else 1)


def test_what_needs_no_node_gets_none() -> None:
    b = builder(graph_of(TEXT))
    x = b.node.inputs[0]
    same = [
        b.transpose("t", x, [0, 1, 2, 3]),
        b.cast("c", x, np.float32),
        b.squeeze("s", x, []),
        b.unsqueeze("u", x, []),
    ]
    assert all(t is x for t in same) and b.nodes == []
    b.replace(x)
    assert [n.op for n in b.graph.nodes] == ["Identity"]
