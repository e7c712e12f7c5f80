"""Which node every path to (or from) a node goes through.

A dominator of n is on every path from the graph's inputs to n; a post-dominator on every path from n to the outputs.
What lies between a node and its immediate post-dominator can be treated as one piece: nothing leaves it elsewhere.
"""

from __future__ import annotations

import networkx as nx
import onnx_graphsurgeon as gs

from segc.graph import ir
from segc.graph.analysis.views import node_graph

_EDGE = 0  # stands for all inputs, or all outputs, together; no object has this id


def dominators(graph: gs.Graph) -> dict[int, gs.Node | None]:
    """The immediate dominator of each node, by id; None where there is none but the inputs.

    A node that reads no other node counts as reading an input. Nodes in a cycle are left out.
    """
    view = node_graph(graph)
    fed = {id(t) for t in graph.inputs}
    for node in graph.nodes:
        if view.in_degree(id(node)) == 0 or any(id(t) in fed for t in ir.reads(node)):
            view.add_edge(_EDGE, id(node))
    return _immediate(view)


def post_dominators(graph: gs.Graph) -> dict[int, gs.Node | None]:
    """The immediate post-dominator of each node, by id; None where there is none but the outputs.

    A node that nobody reads counts as an output.
    """
    view = node_graph(graph)
    kept = {id(t) for t in graph.outputs}
    ends = [n for n in graph.nodes if view.out_degree(id(n)) == 0 or any(id(t) in kept for t in n.outputs)]
    back = nx.DiGraph()
    back.add_nodes_from(view.nodes(data=True))  # view.reverse() would copy the nodes of the IR
    back.add_edges_from((reader, producer) for producer, reader in view.edges)
    back.add_edges_from((_EDGE, id(node)) for node in ends)
    return _immediate(back)


def _immediate(view: nx.DiGraph) -> dict[int, gs.Node | None]:
    if _EDGE not in view:
        return {}
    found = nx.immediate_dominators(view, _EDGE)
    return {n: None if d == _EDGE else view.nodes[d]["node"] for n, d in found.items() if n != _EDGE}
