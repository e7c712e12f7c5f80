"""Reading a Slice of any opset, and arithmetic on its bounds."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_graphsurgeon as gs

from segc.passes.support.edit import ints, optional, rank


def slice_bounds(node: gs.Node) -> tuple[list[int], list[int], list[int], list[int]] | None:
    """Constant starts, ends, axes and steps of a Slice of any opset."""
    if "starts" in node.attrs:  # before opset 10
        starts, ends = list(node.attrs["starts"]), list(node.attrs["ends"])
        return starts, ends, list(node.attrs.get("axes", range(len(starts)))), [1] * len(starts)
    bounds = [ints(optional(node, index)) for index in (1, 2)]
    if bounds[0] is None or bounds[1] is None:
        return None
    axes, steps = (ints(t) if (t := optional(node, index)) is not None else [] for index in (3, 4))
    if axes is None or steps is None:
        return None
    many = range(len(bounds[0]))
    return bounds[0], bounds[1], axes or list(many), steps or [1 for _ in many]


@dataclass(frozen=True)
class Cut:
    """Bounds of a Slice along one axis: cells start, start + step, ... below end; negative counts from the end."""

    start: int
    end: int
    step: int = 1


def is_slice(node: gs.Node) -> bool:
    """Whether this is a Slice of the standard domain."""
    return bool(node.op == "Slice" and node.domain is None and node.inputs and node.outputs)


def cuts_of(node: gs.Node) -> dict[int, Cut] | None:
    """The cut along each axis, by axis, of a Slice with constant bounds; None for other bounds or steps below 1."""
    bounds, dims = slice_bounds(node), rank(node.inputs[0])
    if bounds is None or dims is None or any(step < 1 for step in bounds[3]):
        return None
    return {axis % dims: Cut(start, end, step) for start, end, axis, step in zip(*bounds, strict=True)}


def positions(cut: Cut, size: int) -> range:
    """The cells that a cut with a positive step keeps of an axis with `size` cells."""
    return range(*slice(cut.start, cut.end, cut.step).indices(size))


def compose(first: Cut, then: Cut, size: int) -> Cut:
    """The one cut of an axis with `size` cells that equals `first` followed by `then`."""
    cells = positions(first, size)[slice(then.start, then.end, then.step)]
    return Cut(cells.start, cells.start + len(cells) * cells.step, cells.step) if len(cells) else Cut(0, 0)
