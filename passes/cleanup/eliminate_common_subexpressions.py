"""Merge nodes that compute the same value (common subexpression elimination).

y1 = f(x), y2 = f(x)  ->  y1 = f(x), and the users of y2 read y1, for a deterministic f: equal op, domain, attributes
and inputs. Constants are equal if their type, shape and bytes are; large ones (weights) only if they are one tensor.

Must not fire: random ops (two dropouts are two dropouts), ops with subgraphs, and pairs whose results are both graph
outputs, since each output must be written by its own node.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph.invariants import PORTABLE, REVEALED
from segc.passes.base import Pass, PassResult
from segc.passes.support.edit import forward, protected, small_constant
from segc.passes.support.op_sets import RANDOM

Key = tuple[Any, ...]


class EliminateCommonSubexpressions(Pass):
    """Merge equal nodes. Cost: one walk over the nodes; constants of more than 1024 elements are not read."""

    name = "eliminate-common-subexpressions"
    algebra = "y1 = f(x), y2 = f(x)  ->  y1 = f(x), y2 := y1"
    requires = Pass.requires | {PORTABLE, "constants folded"}
    ensures = frozenset({"lowerings merged"})
    invalidates = REVEALED | {"convolutions hoisted"}

    def run(self, graph: gs.Graph) -> PassResult:
        """Walk the sorted graph until no two nodes are equal: merging inputs makes later nodes equal."""
        result, protected_ids = PassResult(), protected(graph)
        skipped: dict[int, tuple[gs.Node, str]] = {}
        while merged := _walk(graph, protected_ids, skipped):
            result.changes += merged
        for node, why in skipped.values():
            result.skip(node, why)
        return result


def _walk(graph: gs.Graph, protected_ids: set[int], skipped: dict[int, tuple[gs.Node, str]]) -> int:
    first_by_key: dict[Key, gs.Node] = {}
    merged = 0
    for node in list(graph.nodes):
        if not node.outputs or node.op in RANDOM | {"Dropout"} or any(True for _ in node.subgraphs()):
            continue
        kept = first_by_key.setdefault(key(node), node)
        if kept is node:
            continue
        if why := _merge(graph, node, kept, protected_ids):
            skipped[id(node)] = (node, why)
        else:
            merged += 1
    if merged:
        graph.nodes = [n for n in graph.nodes if n.outputs]
    return merged


def key(node: gs.Node) -> Key:
    """A hashable key, equal for nodes that compute the same value."""
    attrs = tuple(sorted((name, _attribute_key(value)) for name, value in node.attrs.items()))
    outputs = tuple(t.is_empty() for t in node.outputs)
    return (node.domain, node.op, attrs, tuple(_tensor_key(t) for t in node.inputs), outputs)


def _tensor_key(tensor: gs.Tensor) -> Key:
    if tensor.is_empty():
        return ("omitted",)
    value = small_constant(tensor)
    return ("tensor", id(tensor)) if value is None else ("constant", str(value.dtype), value.shape, value.tobytes())


def _attribute_key(value: Any) -> Any:
    if isinstance(value, gs.Constant):
        return (str(value.dtype), tuple(value.shape), value.values.tobytes())
    if isinstance(value, np.ndarray):
        return (str(value.dtype), value.shape, value.tobytes())
    return repr(value)


def _merge(graph: gs.Graph, node: gs.Node, kept: gs.Node, protected_ids: set[int]) -> str | None:
    """Let the users of `node` read `kept`. Returns the reason if they cannot."""
    replacements = [(a, b) for a, b in zip(node.outputs, kept.outputs, strict=True) if not a.is_empty()]
    both = next((a.name for a, b in replacements if id(a) in protected_ids and id(b) in protected_ids), None)
    if both is not None:
        return f"'{both}' and the equal tensor are both outputs"
    for duplicate, original in replacements:
        if why := forward(graph, duplicate, original, protected_ids):
            return why
    node.inputs.clear()
    node.outputs.clear()
    return None
