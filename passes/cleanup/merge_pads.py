"""Merge two consecutive Pads into one.

    Pad(Pad(x, p, v), q, v)  ->  Pad(x, p + q, v),   for mode constant with the same v, and for mode edge

Exact: a Pad only copies. Mode edge repeats the border, and the padded map has the same border.

Must not fire: other modes (reflect of reflect mirrors what was mirrored); different modes or values; negative pads,
which crop what the first Pad added; pads that are not constant; an intermediate result that is an output or used
elsewhere.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph.invariants import PORTABLE, REVEALED
from segc.passes.base import Pass, PassResult
from segc.passes.support.edit import Names, optional, protected, prune
from segc.passes.support.pads import is_pad, pad_mode, pad_value, pads_of


class MergePads(Pass):
    """Merge a Pad into the Pad before it. Cost: one walk over the nodes."""

    name = "merge-pads"
    algebra = "Pad(Pad(x, p, v), q, v)  ->  Pad(x, p + q, v)"
    requires = Pass.requires | {PORTABLE, "constants folded", "identities removed"}
    ensures = frozenset({"pads merged"})
    invalidates = REVEALED

    def run(self, graph: gs.Graph) -> PassResult:
        """Walk the sorted graph: a chain of any length becomes one."""
        result, names, protected_ids = PassResult(), Names(graph), protected(graph)
        for node in [n for n in graph.nodes if is_pad(n)]:
            x = node.inputs[0]
            inner = x.inputs[0] if x.inputs else None
            if inner is None or not is_pad(inner):
                continue
            if why := _why_not(inner, node, protected_ids):
                result.skip(node, why)
                continue
            total = [a + b for a, b in zip(pads_of(inner) or [], pads_of(node) or [], strict=True)]
            _rewrite(graph, node, inner, total, names)
            prune(graph, inner, protected_ids)
            result.changes += 1
        return result


def _why_not(inner: gs.Node, outer: gs.Node, protected_ids: set[int]) -> str | None:
    intermediate = inner.outputs[0]
    if id(intermediate) in protected_ids or len(intermediate.outputs) != 1:
        return f"'{intermediate.name}' is also used elsewhere"
    if pad_mode(inner) != pad_mode(outer) or pad_mode(inner) not in ("constant", "edge"):
        return f"the modes of the Pads are {pad_mode(inner)}, then {pad_mode(outer)}"
    inner_pads, outer_pads = pads_of(inner), pads_of(outer)
    if inner_pads is None or outer_pads is None:
        return "the pads are not constant"
    if min([*inner_pads, *outer_pads], default=0) < 0:
        return "a negative pad crops"
    if pad_mode(inner) == "constant" and (pad_value(inner) is None or pad_value(inner) != pad_value(outer)):
        return f"the Pads fill in {pad_value(inner)}, then {pad_value(outer)}"
    return None


def _rewrite(graph: gs.Graph, node: gs.Node, inner: gs.Node, total: list[int], names: Names) -> None:
    if graph.opset < 11:
        node.inputs, node.attrs["pads"] = [inner.inputs[0]], total
        return
    fill = [] if optional(node, 2) is None else [node.inputs[2]]
    node.inputs = [inner.inputs[0], names.constant(node.outputs[0], "pads", np.array(total, np.int64)), *fill]
