"""Lower GatherElements to Gather on a reshaped tensor.

Rows: if one index serves all axes after `axis` (an Expand along them, as in the sampling of maps)

    GatherElements(x, Expand(i))[o, k, :]  =  Gather(Reshape(x, [O * S, ...]), i + o * S)[o, k, :]

with S cells along `axis` and o numbering the cells of the axes before it. Cells: for any other indices, by flat indices

    GatherElements(x, i)  ->  Gather(Reshape(x, [-1]), i * stride(axis) + (flat offset of the position on other axes))

Only indices are computed, so the result is exact for every type. Negative indices count from the end, as before.

Must not fire: unknown ranks; by rows, more than one axis of unknown size before `axis`; by cells, a side of x or of the
indices that is not static.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph.invariants import NODE_RULES, PORTABLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Axis, Builder, RewriteNotApplicable, rewrite, standard, typed

INT64 = np.dtype(np.int64)


class LegalizeGatherElements(Pass):
    """Lower GatherElements to Gather on a reshaped tensor, exactly."""

    name = "legalize-gather-elements"
    algebra = "GatherElements(x, Expand(i))  ->  Gather(Reshape(x), i + first cells), or the same cell by cell"
    ensures = frozenset({"no GatherElements"})
    invalidates = NODE_RULES | {PORTABLE}

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each node where it stands."""
        return rewrite(graph, standard(graph, "GatherElements"), lower, PassResult())


def strides(shape: list[int]) -> list[int]:
    """The stride of each axis in elements."""
    return [math.prod(shape[at + 1 :]) for at in range(len(shape))]


def lower(b: Builder) -> gs.Tensor:
    """Build the nodes that replace one GatherElements. Raises RewriteNotApplicable."""
    x, indices = b.node.inputs
    typed(x, indices)
    axis = b.node.attrs.get("axis", 0) % len(x.shape)
    rows = _row_indices(x, indices, axis)
    return _by_cells(b, x, indices, axis) if rows is None else _by_rows(b, x, rows, axis)


def _row_indices(x: gs.Tensor, indices: gs.Tensor, axis: int) -> gs.Tensor | None:
    """The tensor that the indices are an Expand of, along all axes after `axis` to the sizes of x; otherwise None."""
    producer = indices.inputs[0] if indices.inputs else None
    if producer is None or producer.op != "Expand" or producer.domain is not None:
        return None
    row_indices: gs.Tensor = producer.inputs[0]
    dims = len(x.shape)
    if (
        row_indices.shape is None
        or len(row_indices.shape) != dims
        or any(size != 1 for size in row_indices.shape[axis + 1 :])
    ):
        return None
    inner = list(indices.shape[axis + 1 :]) == list(x.shape[axis + 1 :]) and _static(x.shape[axis + 1 :])
    return row_indices if inner and (axis == 1 or list(row_indices.shape[:axis]) == list(x.shape[:axis])) else None


def _static(sizes: list[object]) -> bool:
    return all(isinstance(size, int) for size in sizes)


def _by_rows(b: Builder, x: gs.Tensor, row_indices: gs.Tensor, axis: int) -> gs.Tensor:
    inner = [int(size) for size in x.shape[axis + 1 :]]
    outer: list[int | Axis] = [(row_indices, at) for at in range(axis)]
    if sum(not isinstance(size, int) for size in row_indices.shape[:axis]) > 1:
        raise RewriteNotApplicable(f"'{row_indices.name}' has several axes of unknown size before axis {axis}")
    cells = _axis_size(b, x, axis)
    flat = b.reshape("rows", x, [[(x, at) for at in range(axis + 1)], *inner])
    index = b.reshape(
        "index", _non_negative(b, b.cast("wide", row_indices, INT64), cells), [[*outer], (row_indices, axis)]
    )
    if math.prod(size if isinstance(size, int) else 2 for size in row_indices.shape[:axis]) != 1:
        index = b.op("Add", "place", index, _row_offsets(b, row_indices, axis, cells))
    picked = b.op("Gather", "picked", flat, index, axis=0)
    return b.reshape("gathered", picked, [*outer, (row_indices, axis), *inner])


def _axis_size(b: Builder, x: gs.Tensor, axis: int) -> gs.Tensor:
    """The size of `x` along an axis, as an int64 scalar."""
    if isinstance(x.shape[axis], int):
        return b.const("side", x.shape[axis])
    return b.op("Gather", "side", b.op("Shape", "sizes", x), b.const("side_axis", axis), axis=0)


def _row_offsets(b: Builder, row_indices: gs.Tensor, axis: int, cells: gs.Tensor) -> gs.Tensor:
    """int64[O, 1]: the index of the first cell of each of the O outer positions."""
    sizes = row_indices.shape[:axis]
    if _static(sizes) and isinstance(cells, gs.Constant):
        return b.const("first", (np.arange(math.prod(sizes)) * cells.values).reshape(-1, 1))
    if _static(sizes):
        return b.op("Mul", "first", b.const("numbers", np.arange(math.prod(sizes)).reshape(-1, 1)), cells)
    shape: gs.Tensor = b.op("Shape", "shape", row_indices)
    count: gs.Tensor | None = None
    for at, size in enumerate(sizes):
        part: gs.Tensor = (
            b.const(f"size{at}", size)
            if isinstance(size, int)
            else b.op("Gather", f"size{at}", shape, b.const(f"axis{at}", at), axis=0)
        )
        count = part if count is None else b.op("Mul", f"sizes{at}", count, part)
    assert count is not None
    numbers = b.op("Range", "numbers", b.const("zero", 0), count, b.const("one", 1))
    return b.unsqueeze("first", b.op("Mul", "firsts", numbers, cells), [1])


def _by_cells(b: Builder, x: gs.Tensor, indices: gs.Tensor, axis: int) -> gs.Tensor:
    others = [size for at, size in enumerate(x.shape) if at != axis]
    if not _static(others) or not _static(indices.shape) or not isinstance(x.shape[axis], int):
        raise RewriteNotApplicable(f"'{x.name}' or '{indices.name}' has sides that are not static")
    steps, shape = strides(list(x.shape)), list(indices.shape)
    offset = np.zeros([size if at != axis else 1 for at, size in enumerate(shape)], np.int64)
    for at, size in enumerate(shape):
        if at != axis:
            offset = offset + (np.arange(size) * steps[at]).reshape([-1 if i == at else 1 for i in range(len(shape))])
    index: gs.Tensor = _non_negative(b, b.cast("wide", indices, INT64), _axis_size(b, x, axis))
    if steps[axis] != 1:
        index = b.op("Mul", "scaled", index, b.const("step", steps[axis]))
    if offset.any():
        index = b.op("Add", "place", index, b.const("offset", offset))
    return b.op("Gather", "gathered", b.reshape("flat", x, [math.prod(x.shape)]), index, axis=0)


def _non_negative(b: Builder, index: gs.Tensor, cells: gs.Tensor) -> gs.Tensor:
    """The indices with those below 0 counted from the front; folded if they are constant."""
    if isinstance(index, gs.Constant) and isinstance(cells, gs.Constant):
        return b.const("front", np.where(index.values < 0, index.values + cells.values, index.values))
    negative = b.op("Less", "negative", index, b.const("nothing", 0))
    return b.op("Where", "front", negative, b.op("Add", "behind", index, cells), index)
