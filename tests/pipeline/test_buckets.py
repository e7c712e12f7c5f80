from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from segc.graph import source_info
from segc.passes.support import evaluate
from segc.pipeline.buckets import Bucket, specialize
from tests.helpers.checks import HEAD, graph_of

UPSAMPLE = """g (float[N,3,H,W] x) => (float[N,3,A,B] y)
    <int64[1] two = {2}, int64[1] four = {4}, int64[1] zero = {0}> {
    small = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)
    whole = Shape (x)  sides = Slice (whole, two, four)  outer = Slice (whole, zero, two)
    sizes = Concat <axis = 0> (outer, sides)  y = Resize <mode = "linear"> (small, , , sizes) }"""


def test_buckets_share_their_weights_and_leave_the_source_alone() -> None:
    rng = np.random.default_rng(0)
    x, a, y = (
        gs.Variable("x", np.float32, ("N", 2, "H", "W")),
        gs.Variable("a", np.float32),
        gs.Variable("y", np.float32),
    )
    y.shape = ["N", 2, "A", "B"]
    weight = gs.Constant("w", rng.standard_normal((2, 2, 3, 3)).astype(np.float32))
    nodes = [gs.Node("Conv", "c", {"pads": [1, 1, 1, 1]}, [x, weight], [a]), gs.Node("Relu", "r", {}, [a], [y])]
    source_info.put(nodes[0], source_info.Origin("net.py:7 forward"))
    source = gs.Graph(nodes, [x], [y], opset=17, ir_version=9)
    graphs = specialize(source, [(1, 4, 6), (2, 8, 5), (None, 4, None)])
    assert [list(g.inputs[0].shape) for g in graphs] == [[1, 2, 4, 6], [2, 2, 8, 5], ["N", 2, 4, "W"]]
    assert [list(g.outputs[0].shape)[:3] for g in graphs] == [[1, 2, 4], [2, 2, 8], ["N", 2, 4]]
    assert list(source.inputs[0].shape) == ["N", 2, "H", "W"] and list(y.shape) == ["N", 2, "A", "B"]
    for graph in graphs:
        assert graph.nodes[0].inputs[1].values is weight.values
        assert source_info.of(graph.nodes[0]).source == "net.py:7 forward"


def test_the_weights_of_a_model_are_not_copied_either() -> None:
    text = HEAD + "g (float[N,2,H,W] x) => (float[N,2,H,W] y) <float[2,1,1] w = {1, 2}> { y = Mul (x, w) }"
    graphs = specialize(graph_of(text), [(1, 2, 3), (1, 4, 5)])
    assert graphs[0].nodes[0].inputs[1].values is graphs[1].nodes[0].inputs[1].values


def test_each_bucket_computes_what_the_dynamic_graph_does() -> None:
    source = graph_of(HEAD + UPSAMPLE)
    for graph, size in zip(specialize(source, [(1, 6, 10), (3, 4, 2)]), [(1, 6, 10), (3, 4, 2)], strict=True):
        assert [n.op for n in graph.nodes] == ["MaxPool", "Resize"]
        x = np.random.default_rng(0).standard_normal((size[0], 3, *size[1:])).astype(np.float32)
        want, got = (evaluate.outputs(g, {"x": x})["y"] for g in (source, graph))
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    ("bucket", "message"),
    [
        ((1, 8, 6), "bucket 1 x 8 x 6: width 6 disagrees with height 8: both are 'S' in input 'x'"),
        ((None, 0, None), "bucket any x 0 x any: height must be at least 1, not 0"),
    ],
)
def test_a_wrong_bucket_is_named(bucket: Bucket, message: str) -> None:
    graph = graph_of(HEAD + "g (float[N,3,S,S] x) => (float[N,3,S,S] y) { y = Relu (x) }")
    with pytest.raises(ValueError, match=message):
        specialize(graph, [(1, 4, 4), bucket])
