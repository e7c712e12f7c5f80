"""Normalize axes and Slice bounds: axes non-negative and ascending, bounds non-negative and inside.

    axis = -1 of a tensor with n axes       ->  axis = n - 1
    axes = [-1, 1]                          ->  axes = [1, n - 1], with pads, sizes, starts and ends reordered alike
    Slice(x, starts, ends), side s known    ->  the same cells with 0 <= start <= end <= s, for positive steps

A default axis that counts from the back (Softmax from opset 13 on, LayerNormalization, and others) is made explicit.
Exact: the nodes do the same. A Slice with a negative step may have to end before cell 0, for which there is no
non-negative number, so only its start is normalized.

Must not fire: an unknown rank; axes computed at run time; axes out of order with bounds, pads or sizes computed at run
time. A bound that counts from the end of a side of unknown size stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph import ir
from segc.graph.invariants import PORTABLE, SINGLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import RewriteNotApplicable
from segc.passes.support.edit import Names, ints, optional, rank, small_constant


@dataclass(frozen=True)
class Axis:
    """The axis attribute of an op. rank: of the tensor that the axis belongs to. default: if it is negative."""

    rank: Callable[[gs.Node], int]
    default: int | None = None
    since: int = 1  # the first opset with that default


def _rank_of_input(index: int = 0, extra: int = 0) -> Callable[[gs.Node], int]:
    return lambda node: known_rank(node.inputs[index]) + extra


ONE_AXIS: dict[str, Axis] = {
    **dict.fromkeys(["Softmax", "LogSoftmax", "Hardmax"], Axis(_rank_of_input(), -1, since=13)),
    **dict.fromkeys(["LayerNormalization", "LpNormalization", "TopK"], Axis(_rank_of_input(), -1)),
    **dict.fromkeys(["Concat", "Split", "ArgMax", "ArgMin", "Flatten"], Axis(_rank_of_input())),
    **dict.fromkeys(["Gather", "GatherElements", "ScatterElements", "Compress"], Axis(_rank_of_input())),
    **dict.fromkeys(["QuantizeLinear", "DequantizeLinear"], Axis(_rank_of_input())),
    "OneHot": Axis(_rank_of_input(extra=1), -1),
}
REDUCTIONS = tuple(
    f"Reduce{kind}" for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
)
AXES_AS_SET = (
    *REDUCTIONS,
    "Squeeze",
    "Unsqueeze",
)  # the order of the axes does not matter; they are an attribute, or input 1


class LegalizeAxes(Pass):
    """Make axes non-negative and ascending, and the bounds of Slice non-negative if sides are known."""

    name = "legalize-axes"
    algebra = "axis = -k of n axes  ->  axis = n - k;  Slice bounds  ->  0 <= start <= end <= side"
    requires = frozenset({SINGLE})
    ensures = frozenset({"axes in order"})
    invalidates = frozenset({PORTABLE, "defaults written"})

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite nodes in place."""
        result, names = PassResult(), Names(graph)
        for node in [n for n in ir.nodes(graph) if not n.domain]:
            try:
                result.changes += _normalize(node, graph.opset, names)
            except RewriteNotApplicable as why:
                result.skip(node, str(why))
        return result


def from_front(axes: Sequence[int], dims: int) -> list[int]:
    """The axes counted from the front. The axis `dims` is valid for Flatten and stays."""
    return [a + dims if a < 0 else a for a in axes]


def bounds_inside(start: int, end: int, step: int, side: int) -> tuple[int, int]:
    """The bounds of the same cells, non-negative if possible: an end before cell 0 stays negative."""
    if step > 0:
        low = min(max(start + side if start < 0 else start, 0), side)
        return low, max(min(max(end + side if end < 0 else end, 0), side), low)
    low = min(max(start + side if start < 0 else start, -1), side - 1)
    high = min(max(end + side if end < 0 else end, -1), side - 1)
    if high >= low:  # also where low is -1
        return 0, 0  # no cells
    return low, high if high >= 0 else -side - 1


def known_rank(tensor: gs.Tensor) -> int:
    """The rank. Raises RewriteNotApplicable if it is unknown."""
    if (dims := rank(tensor)) is None:
        raise RewriteNotApplicable(f"the rank of '{tensor.name}' is unknown")
    return dims


def _normalize(node: gs.Node, opset: int, names: Names) -> bool:
    """Normalize one node. Returns whether it changed."""
    if node.op in ONE_AXIS:
        return _normalize_axis(node, ONE_AXIS[node.op], opset)
    if node.op in AXES_AS_SET:
        return _normalize_axes(node, names)
    if node.op == "CumSum":
        return _normalize_cumsum(node, names)
    if node.op == "Slice":
        return _normalize_slice(node, names)
    if node.op == "Pad":
        return _normalize_pad(node, names)
    return node.op == "Resize" and _normalize_resize(node, names)


def _normalize_axis(node: gs.Node, rule: Axis, opset: int) -> bool:
    axis = node.attrs.get("axis", rule.default if opset >= rule.since else None)
    if axis is None or axis >= 0:
        return False
    node.attrs["axis"] = from_front([axis], rule.rank(node))[0]
    return True


def _constant(tensor: gs.Tensor | None, what: str) -> list[int] | None:
    """The ints of an input, None if it is omitted. Raises RewriteNotApplicable if it is computed."""
    values = ints(tensor)
    if tensor is not None and values is None:
        raise RewriteNotApplicable(f"its {what} are computed at run time")
    return values


def _is_normalized(axes: Sequence[int]) -> bool:
    return all(a >= 0 for a in axes) and list(axes) == sorted(axes)


def _normalize_axes(node: gs.Node, names: Names) -> bool:
    by_input = "axes" not in node.attrs
    axes = _constant(optional(node, 1), "axes") if by_input else list(node.attrs["axes"])
    if axes is None or _is_normalized(axes):
        return False
    more = len(axes) if node.op == "Unsqueeze" else 0
    normalized = sorted(from_front(axes, known_rank(node.inputs[0]) + more))
    if by_input:
        node.inputs[1] = names.constant(node.outputs[0], "axes", normalized)
    else:
        node.attrs["axes"] = normalized
    return True


def _normalize_cumsum(node: gs.Node, names: Names) -> bool:
    axis = _constant(node.inputs[1], "axes")
    assert axis is not None, "it is no optional input"
    if axis[0] >= 0:
        return False
    value = node.inputs[1].values
    normalized = value + value.dtype.type(known_rank(node.inputs[0]))
    node.inputs[1] = names.constant(node.outputs[0], "axis", normalized)
    return True


def _normalize_pad(node: gs.Node, names: Names) -> bool:
    axes = _constant(optional(node, 3), "axes")
    if axes is None or _is_normalized(axes):
        return False
    from_start = from_front(axes, known_rank(node.inputs[0]))
    order = sorted(range(len(from_start)), key=from_start.__getitem__)
    if order != list(range(len(order))):
        pads = _constant(node.inputs[1], "pads")
        assert pads is not None
        both = [pads[at + half] for half in (0, len(order)) for at in order]
        node.inputs[1] = names.constant(node.outputs[0], "pads", both)
    node.inputs[3] = names.constant(node.outputs[0], "axes", [from_start[at] for at in order])
    return True


def _normalize_resize(node: gs.Node, names: Names) -> bool:
    axes = list(node.attrs.get("axes", ()))
    if _is_normalized(axes):
        return False
    from_start = from_front(axes, known_rank(node.inputs[0]))
    order = sorted(range(len(from_start)), key=from_start.__getitem__)
    changed: list[tuple[int, Any]] = []
    if order != list(range(len(order))):
        for at, role in ((1, "roi"), (2, "scales"), (3, "sizes")):
            if (tensor := optional(node, at)) is None:
                continue
            if (values := small_constant(tensor)) is None or at == 1:
                raise RewriteNotApplicable(
                    f"its {role} are computed at run time" if at > 1 else "it has a roi along axes out of order"
                )
            changed.append((at, names.constant(node.outputs[0], role, values[order])))
    for at, constant in changed:
        node.inputs[at] = constant
    node.attrs["axes"] = [from_start[at] for at in order]
    return True


def _normalize_slice(node: gs.Node, names: Names) -> bool:
    axes = _constant(optional(node, 3), "axes")
    starts, ends, steps = ints(node.inputs[1]), ints(node.inputs[2]), ints(optional(node, 4))
    if starts is None or ends is None or (optional(node, 4) is not None and steps is None):
        return _normalize_slice_axes(node, axes, names)
    x = node.inputs[0]
    from_start = from_front(axes if axes is not None else range(len(starts)), known_rank(x))
    rows = sorted(zip(from_start, starts, ends, steps or [1] * len(starts), strict=True))
    normalized = [(axis, *_bounds_if_known(x.shape[axis], start, end, step), step) for axis, start, end, step in rows]
    changed = False
    for (at, role, old), new in zip(
        ((3, "axes", axes), (1, "starts", starts), (2, "ends", ends), (4, "steps", steps)),
        zip(*normalized, strict=True),
        strict=False,  # a Slice along no axes has no columns
    ):
        if old is not None and old != list(new):
            node.inputs[at] = names.constant(node.outputs[0], role, np.array(new, node.inputs[1].dtype))
            changed = True
    return changed


def _normalize_slice_axes(node: gs.Node, axes: list[int] | None, names: Names) -> bool:
    """Normalize the axes of a Slice with computed bounds, which stay: so the axes must keep their order."""
    if axes is None or _is_normalized(axes):
        return False
    from_start = from_front(axes, known_rank(node.inputs[0]))
    if not _is_normalized(from_start):
        raise RewriteNotApplicable("its bounds are computed at run time, and its axes are out of order")
    node.inputs[3] = names.constant(node.outputs[0], "axes", from_start)
    return True


def _bounds_if_known(side: Any, start: int, end: int, step: int) -> tuple[int, int]:
    return bounds_inside(start, end, step, side) if isinstance(side, int) else (start, end)
