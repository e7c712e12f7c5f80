"""A graph of the IR as a networkx graph.

GraphSurgeon's nodes and tensors compare by value and cannot be hashed, so a view is keyed by `id(node)` and has the
node as attribute `node`. A view is a snapshot: it does not follow later edits, and it keeps its nodes alive.
"""

from __future__ import annotations

import networkx as nx
import onnx_graphsurgeon as gs

from segc.graph import ir


def node_graph(graph: gs.Graph) -> nx.DiGraph:
    """A directed graph with an edge from each node to each node that reads one of its outputs, also in a subgraph.

    Nodes: id(node), with attributes `node` and `op` ("domain::Op" outside ONNX's domain). Edges: attribute `at`, the
    set of the reader's input positions, empty if only its subgraphs read the output.
    """
    view = nx.DiGraph()
    for node in graph.nodes:
        view.add_node(id(node), node=node, op=f"{node.domain}::{node.op}" if node.domain else node.op)
    for node in graph.nodes:
        for tensor in ir.reads(node):
            for producer in tensor.inputs:
                if id(producer) in view:
                    view.add_edge(id(producer), id(node), at=set())
        for at, tensor in enumerate(node.inputs):
            for producer in tensor.inputs:
                if id(producer) in view:
                    view.edges[id(producer), id(node)]["at"].add(at)
    return view
