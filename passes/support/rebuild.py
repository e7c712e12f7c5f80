"""Take over what a tool of ONNX made of a graph: it saw the structure alone, the weights stay where they are."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import onnx
import onnx_graphsurgeon as gs

from segc.graph import ir, source_info


def over(graph: gs.Graph, model: onnx.ModelProto) -> gs.Graph:
    """`model` as a graph of new nodes over the tensors of `graph`, which stays as it was; weights are shared arrays."""
    made = gs.import_onnx(model)
    old = graph.tensors()
    for tensor in made.tensors().values():
        known = old.get(tensor.name)
        if isinstance(known, gs.Constant) and isinstance(tensor, gs.Variable):
            tensor.to_constant(None)
            tensor._values, tensor.data_location = known._values, None
        elif isinstance(known, gs.Variable) and isinstance(tensor, gs.Variable) and tensor.shape is None:
            tensor.dtype, tensor.shape = tensor.dtype or known.dtype, known.shape
    read = {t.name: t for t in made.inputs}
    made.inputs = [_like(read.get(t.name), t) for t in graph.inputs]
    for node in made.nodes:
        node.domain = node.domain or None
    made.functions = []
    made.opset, made.ir_version = graph.opset, graph.ir_version
    return made


def _like(tensor: gs.Variable | None, known: gs.Variable) -> gs.Variable:
    """An input as the graph declares it; a simplifier may have dropped it because nothing reads it."""
    if tensor is None:
        return known
    tensor.dtype, tensor.shape = known.dtype, known.shape
    return tensor


def take_over(graph: gs.Graph, candidate: gs.Graph, unchanged: Collection[str], *, made_by: str) -> None:
    """Make `graph` what `candidate` is. Nodes find their origin by the names of the tensors they write.

    unchanged: names of tensors; who writes one is as before. made_by: who made the other nodes.
    """
    writer = {t.name: node for node in graph.nodes for t in node.outputs if not t.is_empty()}
    for node in candidate.nodes:
        former = next((writer[t.name] for t in node.outputs if t.name in writer), None)
        same = node.outputs[0].name in unchanged
        node.name = former.name if former is not None and same else ""
        if former is not None:
            where = source_info.of(former)
            source_info.put(node, where if same else replace(where, made_by=made_by))
    graph.nodes, graph.inputs, graph.outputs = candidate.nodes, candidate.inputs, candidate.outputs
    ir.name_all(graph)
