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

from segc.passes.base import Pass, PassResult
from segc.passes.support.edit import Names, ints, optional, protected, prune, rank, scalar


class MergePads(Pass):
    """Merge a Pad into the Pad before it. Cost: one walk over the nodes."""

    name = "merge-pads"
    algebra = "Pad(Pad(x, p, v), q, v)  ->  Pad(x, p + q, v)"

    def run(self, graph: gs.Graph) -> PassResult:
        """Walk the sorted graph: a chain of any length becomes one."""
        result, names, keep = PassResult(), Names(graph), protected(graph)
        for node in [n for n in graph.nodes if is_pad(n)]:
            x = node.inputs[0]
            inner = x.inputs[0] if x.inputs else None
            if inner is None or not is_pad(inner):
                continue
            if why := _why_not(inner, node, keep):
                result.skip(node, why)
                continue
            total = [a + b for a, b in zip(pads(inner) or [], pads(node) or [], strict=True)]
            _rewrite(graph, node, inner, total, names)
            prune(graph, inner, keep)
            result.changes += 1
        return result


def is_pad(node: gs.Node) -> bool:
    """Whether this is a Pad of the standard domain."""
    return bool(node.op == "Pad" and node.domain is None and node.inputs and node.outputs)


def mode(node: gs.Node) -> str:
    """The mode of a Pad: constant, reflect, edge or wrap."""
    value = node.attrs.get("mode", "constant")
    return value.decode() if isinstance(value, bytes) else str(value)


def pads(node: gs.Node) -> list[int] | None:
    """Cells added before each axis, then after each axis; None if they are not constant."""
    dims = rank(node.inputs[0])
    values = list(node.attrs["pads"]) if "pads" in node.attrs else ints(optional(node, 1))
    if values is None or dims is None:
        return None
    if optional(node, 3) is None:
        return values if len(values) == 2 * dims else None
    axes = ints(optional(node, 3))
    if axes is None or len(values) != 2 * len(axes):
        return None
    all_axes = [0] * (2 * dims)
    for i, axis in enumerate(axes):
        all_axes[axis % dims], all_axes[axis % dims + dims] = values[i], values[i + len(axes)]
    return all_axes


def value(node: gs.Node) -> float | None:
    """The value that a Pad of mode constant fills in; None if it is computed."""
    if "value" in node.attrs:
        return float(node.attrs["value"])
    fill_value = optional(node, 2)
    return 0.0 if fill_value is None else scalar(fill_value)


def _why_not(inner: gs.Node, outer: gs.Node, keep: set[int]) -> str | None:
    intermediate = inner.outputs[0]
    if id(intermediate) in keep or len(intermediate.outputs) != 1:
        return f"'{intermediate.name}' is also used elsewhere"
    if mode(inner) != mode(outer) or mode(inner) not in ("constant", "edge"):
        return f"the modes of the Pads are {mode(inner)}, then {mode(outer)}"
    inner_pads, outer_pads = pads(inner), pads(outer)
    if inner_pads is None or outer_pads is None:
        return "the pads are not constant"
    if min([*inner_pads, *outer_pads], default=0) < 0:
        return "a negative pad crops"
    if mode(inner) == "constant" and (value(inner) is None or value(inner) != value(outer)):
        return f"the Pads fill in {value(inner)}, then {value(outer)}"
    return None


def _rewrite(graph: gs.Graph, node: gs.Node, inner: gs.Node, total: list[int], names: Names) -> None:
    if graph.opset < 11:
        node.inputs, node.attrs["pads"] = [inner.inputs[0]], total
        return
    fill = [] if optional(node, 2) is None else [node.inputs[2]]
    node.inputs = [inner.inputs[0], names.constant(node.outputs[0], "pads", np.array(total, np.int64)), *fill]
