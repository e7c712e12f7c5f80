"""The depth of each node."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from segc.graph import ir


def depths(graph: gs.Graph) -> dict[int, int]:
    """By node id, the number of nodes on the longest path from an input to the node, inclusive; Casts do not count."""
    found: dict[int, int] = {}
    for node in graph.nodes:
        before = max((found[id(n)] for t in ir.reads(node) for n in t.inputs if id(n) in found), default=0)
        found[id(node)] = before + (node.op != "Cast")
    return found
