"""Finding small patterns of ops in a graph.

A pattern matches where its nodes and edges are found; the graph may have more edges between the nodes found. That is a
monomorphism. networkx's subgraph *isomorphism* is induced: it asks that there be no other edge, and so misses
Conv -> Relu -> Conv inside a residual block, where the first Conv is read by an Add as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import networkx as nx
import onnx_graphsurgeon as gs
from networkx.algorithms.isomorphism import DiGraphMatcher

from segc.graph.analysis.views import node_graph

ANY = "*"


@dataclass(frozen=True)
class Match:
    """Name in the pattern -> node in the graph."""

    nodes: Mapping[str, gs.Node]

    def escaping(self, graph: gs.Graph, last: str) -> list[gs.Tensor]:
        """Results of all nodes but `last` that are needed outside the match: a rewrite must keep those."""
        inside = {id(node) for node in self.nodes.values()}
        outputs = {id(t) for t in graph.outputs}
        inner = [t for name, node in self.nodes.items() if name != last for t in node.outputs]
        return [t for t in inner if id(t) in outputs or any(id(user) not in inside for user in t.outputs)]


def pattern(
    ops: Mapping[str, str | Sequence[str]], edges: Sequence[tuple[str, str] | tuple[str, str, int]]
) -> nx.DiGraph:
    """A pattern to look for.

    ops: name -> op, several ops, or "*" for any. edges: (producer, reader), or (producer, reader, position of the
    input). Raises KeyError for an edge of an unknown name.
    """
    made = nx.DiGraph()
    for name, op in ops.items():
        made.add_node(name, ops=frozenset([op] if isinstance(op, str) else op))
    for producer, reader, *at in edges:
        for name in (producer, reader):
            if name not in ops:
                raise KeyError(name)
        made.add_edge(producer, reader)
        made.edges[producer, reader].setdefault("at", set()).update(at)
    return made


def matches(graph: gs.Graph, wanted: nx.DiGraph) -> Iterator[Match]:
    """All places where `wanted` (see `pattern`) is found; they may overlap. Cost: exponential in the pattern only."""
    view = node_graph(graph)
    matcher = DiGraphMatcher(view, wanted, node_match=_same_op, edge_match=_same_place)
    for found in matcher.subgraph_monomorphisms_iter():
        yield Match({name: view.nodes[key]["node"] for key, name in found.items()})


def _same_op(node: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return ANY in wanted["ops"] or node["op"] in wanted["ops"]


def _same_place(edge: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return bool(wanted.get("at", set()) <= edge["at"])
