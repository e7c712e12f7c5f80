"""Make one Pad of two.

    Pad(Pad(x, p, v), q, v)  ->  Pad(x, p + q, v),   for mode constant with the same v, and for mode edge

Exact: a Pad copies. Edge repeats the border, and the border of a padded map is that border.

Must not fire: other modes (reflect of reflect mirrors what was mirrored); different modes or values; negative pads,
which cut away what the first one added; pads that are not constant; a value between that is an output or used
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
            first = x.inputs[0] if x.inputs else None
            if first is None or not is_pad(first):
                continue
            if why := _why_not(first, node, keep):
                result.skip(node, why)
                continue
            total = [a + b for a, b in zip(pads(first) or [], pads(node) or [], strict=True)]
            _write(graph, node, first, total, names)
            prune(graph, first, keep)
            result.changes += 1
        return result


def is_pad(node: gs.Node) -> bool:
    """Whether this is a Pad of the standard domain."""
    return bool(node.op == "Pad" and node.domain is None and node.inputs and node.outputs)


def mode(node: gs.Node) -> str:
    """constant, reflect, edge or wrap."""
    found = node.attrs.get("mode", "constant")
    return found.decode() if isinstance(found, bytes) else str(found)


def pads(node: gs.Node) -> list[int] | None:
    """Cells added before each axis, then behind each axis; None when they are not constant."""
    dims = rank(node.inputs[0])
    given = list(node.attrs["pads"]) if "pads" in node.attrs else ints(optional(node, 1))
    if given is None or dims is None:
        return None
    if optional(node, 3) is None:
        return given if len(given) == 2 * dims else None
    axes = ints(optional(node, 3))
    if axes is None or len(given) != 2 * len(axes):
        return None
    whole = [0] * (2 * dims)
    for at, axis in enumerate(axes):
        whole[axis % dims], whole[axis % dims + dims] = given[at], given[at + len(axes)]
    return whole


def value(node: gs.Node) -> float | None:
    """What a constant Pad fills in; None when it is computed."""
    if "value" in node.attrs:
        return float(node.attrs["value"])
    given = optional(node, 2)
    return 0.0 if given is None else scalar(given)


def _why_not(first: gs.Node, then: gs.Node, keep: set[int]) -> str | None:
    between = first.outputs[0]
    if id(between) in keep or len(between.outputs) != 1:
        return f"'{between.name}' is also used elsewhere"
    if mode(first) != mode(then) or mode(first) not in ("constant", "edge"):
        return f"Pad is {mode(first)}, then {mode(then)}"
    before, after = pads(first), pads(then)
    if before is None or after is None:
        return "pads that are not constant"
    if min([*before, *after], default=0) < 0:
        return "a negative pad cuts"
    if mode(first) == "constant" and (value(first) is None or value(first) != value(then)):
        return f"Pad fills in {value(first)}, then {value(then)}"
    return None


def _write(graph: gs.Graph, node: gs.Node, first: gs.Node, total: list[int], names: Names) -> None:
    if graph.opset < 11:
        node.inputs, node.attrs["pads"] = [first.inputs[0]], total
        return
    fill = [] if optional(node, 2) is None else [node.inputs[2]]
    node.inputs = [first.inputs[0], names.constant(node.outputs[0], "pads", np.array(total, np.int64)), *fill]
