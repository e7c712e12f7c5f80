"""How deep in a graph a node lies."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from segc.graph import ir


def depths(graph: gs.Graph) -> dict[int, int]:
    """Nodes on the longest path from an input to each node, itself included, by id. Casts do not count."""
    found: dict[int, int] = {}
    for node in graph.nodes:
        before = max((found[id(n)] for t in ir.reads(node) for n in t.inputs if id(n) in found), default=0)
        found[id(node)] = before + (node.op != "Cast")
    return found
