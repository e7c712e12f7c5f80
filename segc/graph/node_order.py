"""Nodes in an order in which each follows the producers of what it reads; converters of some makers write any order."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from segc.graph.onnx_border import graphs, reads


def sort_nodes(model: onnx.ModelProto) -> bool:
    """Sort the nodes of a checked model, in place, in subgraphs and functions too. Returns whether any moved.

    The sort is stable: a node moves behind its producers only if it must. The model must have no cycles.
    """
    moved = False
    for graph in graphs(model.graph):
        moved |= _sort(graph)
    for function in model.functions:
        moved |= _sort(function)
    return moved


def _sort(holder: onnx.GraphProto | onnx.FunctionProto) -> bool:
    nodes = list(holder.node)
    writers = {name: at for at, node in enumerate(nodes) for name in node.output if name}
    needs = [[writers[name] for name in reads(node) if name in writers] for node in nodes]
    if all(producer < at for at, producers in enumerate(needs) for producer in producers):
        return False
    order = _order(needs)
    ordered = [onnx.NodeProto.FromString(nodes[at].SerializeToString()) for at in order]
    del holder.node[:]
    holder.node.extend(ordered)
    return True


def _order(needs: list[list[int]]) -> list[int]:
    """Depth first without recursion: chains are as long as models are deep."""
    result: list[int] = []
    begun: set[int] = set()
    for first in range(len(needs)):
        stack: list[tuple[int, Iterator[int]]] = [] if first in begun else [(first, iter(needs[first]))]
        begun.add(first)
        while stack:
            at, rest = stack[-1]
            missing = next((producer for producer in rest if producer not in begun), None)
            if missing is None:
                result.append(at)
                stack.pop()
            else:
                begun.add(missing)
                stack.append((missing, iter(needs[missing])))
    return result
