"""A small network for tests of quantization, and the ranges of its tensors."""

from __future__ import annotations

from collections import Counter

import onnx_graphsurgeon as gs

from tests.helpers.checks import HEAD20

# Convolutions with a Relu, an addition and a resize between them, and a convolution before the mask.
NET = (
    HEAD20
    + """g (float[1,3,8,8] x) => (float[1,2,16,16] y)
    <float[4,3,1,1] w = {1, -2, 0.5, 0.25, 1, -1, 0, 2, 1, -1, 1, 1}, float[4] b = {0.5, 0, -0.25, 1},
     float[4,4,1,1] v = {1, 0, 0, 1, 0, 1, 0, -1, 0, 0, 1, 0, 1, 1, 0, 1},
     float[2,4,1,1] u = {1, 0, -1, 1, 0, 1, 1, -1},
     float[4] scales = {1, 1, 2, 2}> {
    a = Conv (x, w, b)  r = Relu (a)  c = Conv (r, v)  s = Add (r, c)
    t = Resize <mode = "linear"> (s, , scales)  q = Conv (t, v)  y = Conv (q, u) }"""
)
RANGES = (
    ("x", -2.0, 2.0), ("a", -7.0, 7.0), ("r", 0.0, 7.0), ("c", -7.0, 14.0), ("s", -7.0, 20.0), ("t", -7.0, 20.0),
    ("q", -20.0, 40.0),
)  # fmt: skip


def ops(graph: gs.Graph) -> Counter[str]:
    """How often each op occurs."""
    return Counter(node.op for node in graph.nodes)
