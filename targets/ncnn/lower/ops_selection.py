"""Rows for selecting: the largest cells, and writing cells back. ncnn has no layer for either; these do it exactly.

The largest of many with their places are sorted (sorting.py). Writing K cells to places that differ: sort the places
too, and let each cell of the result look itself up among them by bisection, a GridSample of the nearest cell at each
step. Those that find themselves take their update, the others keep what they had.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from segc.passes.legalize.scatter_elements import require_distinct
from segc.passes.support.builder import Cannot, text
from segc.targets.ncnn.lower.attributes import axis as axis_of
from segc.targets.ncnn.lower.attributes import constant_ints, whole
from segc.targets.ncnn.lower.layout import dims
from segc.targets.ncnn.lower.lowering import Emission, row
from segc.targets.ncnn.lower.ops_math import threshold, with_scalar
from segc.targets.ncnn.lower.ops_matrix import reduction
from segc.targets.ncnn.lower.ops_movement import crop, nearest, places_of, with_axis
from segc.targets.ncnn.lower.sorting import LOWEST, SORTED_CELLS, descending
from segc.targets.ncnn.net.net import Blob, Refused, known, require, total
from segc.targets.ncnn.net.params import BINARY, UNARY


@row("TopK")
def top_k(e: Emission, node: gs.Node) -> None:
    """Values alone of the first or the first two cells by maxima; with places, along one row, by sorting."""
    x, (values, places) = node.inputs[0], node.outputs
    axis = axis_of(node, len(x.shape), -1)
    count = constant_ints(node, 1, "number of cells")[0]
    require(whole(node, "largest", 1) == 1, "it wants the smallest cells")
    if count <= 2 and not places.outputs:
        return e.put(values, _first_two(e, x, axis, count))
    sizes = known(dims(x.shape), f"'{x.name}'")
    require(total(sizes) == sizes[axis], f"places of the largest along axis {axis} of {list(sizes)}: one row is sorted")
    found, at = descending(e, "sorted", e.shaped(x, (1, sizes[axis])), count)
    e.put(values, found)
    e.put(places, at)
    return None


def _first_two(e: Emission, x: gs.Tensor, axis: int, count: int) -> Blob:
    """The largest along an axis, and the second largest, which equals it where several are largest."""
    blob, at = with_axis(e, x, axis)
    most = reduction(e, "most", blob, "max", [at])
    if count == 1:
        return most
    behind = threshold(e, "behind", e.layer("BinaryOp", "distance", [most, blob], op_type=BINARY["sub"]), 0.0)
    first = with_scalar(e, "first", "rsub", behind, 1.0)
    lowered = with_scalar(e, "lowered", "mul", first, LOWEST)
    rest = e.layer("BinaryOp", "rest", [blob, lowered], op_type=BINARY["add"])
    other = reduction(e, "other", rest, "max", [at])
    several = threshold(e, "several", reduction(e, "count", first, "sum", [at]), 1.5)
    second = choose(e, "second", several, most, other)
    return e.layer("Concat", "two", [most, second], axis=at)


def choose(e: Emission, role: str, mask: Blob, a: Blob, b: Blob) -> Blob:
    """mask * a + (1 - mask) * b."""
    chosen = e.layer("BinaryOp", f"{role}_chosen", [mask, a], op_type=BINARY["mul"])
    rest = with_scalar(e, f"{role}_unmasked", "rsub", mask, 1.0)
    other = e.layer("BinaryOp", f"{role}_other", [rest, b], op_type=BINARY["mul"])
    return e.layer("BinaryOp", role, [chosen, other], op_type=BINARY["add"])


@row("ScatterElements")
def scatter(e: Emission, node: gs.Node) -> None:
    """Constant places that form a range: Concat. Distinct places along the last axis: looked up."""
    data, indices, updates = node.inputs
    y = node.outputs[0]
    axis = axis_of(node, len(data.shape), 0)
    require(text(node, "reduction", "none") == "none", f"reduction is {text(node, 'reduction')}")
    into, given = known(dims(data.shape), f"'{data.name}'"), known(dims(indices.shape), f"'{indices.name}'")
    same = (*into[:axis], *into[axis + 1 :]) == (*given[:axis], *given[axis + 1 :])
    require(same, f"it writes {list(given)} into a part of {list(into)}")
    if isinstance(indices, gs.Constant):
        return e.put(y, _into_range(e, data, indices.values, updates, axis))
    require(axis == len(into) - 1, f"it writes along axis {axis}, not along the last")
    row_of = shared_row(indices)
    try:
        require_distinct(indices, into[-1])
    except Cannot as reason:
        raise Refused(str(reason)) from reason
    outer, points, cells = total(into[:-1]), given[-1], into[-1]
    slots, hit = look_up(e, e.shaped(row_of, (1, points)), points, cells)
    new = nearest(e, "new", e.shaped(updates, (outer, 1, points)), places_of(e, "slot", slots, points))
    kept = with_scalar(e, "kept", "rsub", hit, 1.0)
    old = e.layer("BinaryOp", "old", [e.shaped(data, (outer, 1, cells)), kept], op_type=BINARY["mul"])
    put = e.layer("BinaryOp", "put", [new, hit], op_type=BINARY["mul"])
    return e.put(y, e.layer("BinaryOp", "scattered", [old, put], op_type=BINARY["add"]))


def _into_range(e: Emission, data: gs.Tensor, indices: np.ndarray, updates: gs.Tensor, axis: int) -> Blob:
    """The data with the cells of one range replaced."""
    count, side = indices.shape[axis], dims(data.shape)[axis]
    assert side is not None
    moved = np.moveaxis(indices, axis, -1).reshape(-1, count) % side
    low = int(moved[0, 0])
    require(bool((moved == np.arange(low, low + count)).all()), "its constant places form no range")
    blob, at = with_axis(e, data, axis)
    shape = (*blob.shape[:at], count, *blob.shape[at + 1 :])
    parts = [crop(e, "before", blob, [(at, 0, low)])] if low else []
    parts.append(e.shaped(updates, shape))
    parts += [crop(e, "after", blob, [(at, low + count, side)])] if low + count < side else []
    return e.layer("Concat", "replaced", parts, axis=at) if len(parts) > 1 else parts[0]


def shared_row(indices: gs.Tensor) -> gs.Tensor:
    """The one row of places that all rows of `indices` repeat. Raises Refused when they may differ."""
    at, count = indices, dims(indices.shape)[-1]
    while total(dims(at.shape)) != count:
        maker = at.inputs[0] if at.inputs else None
        if maker is None or maker.op not in ("Expand", "Unsqueeze", "Identity") or dims(at.shape)[-1] != count:
            raise Refused("its places differ from row to row")
        at = maker.inputs[0]
    require(dims(at.shape)[-1:] == (count,) or total(dims(at.shape)) == count, "its places differ from row to row")
    return at


def look_up(e: Emission, places: Blob, points: int, cells: int) -> tuple[Blob, Blob]:
    """For each cell which of `places` (1, points) names it, and whether one does: both (1, 1, cells)."""
    low, slot = descending(e, "ascending", with_scalar(e, "negated", "mul", places, -1.0), points)
    ranks = 1 << (points - 1).bit_length()
    columns = [with_scalar(e, "upwards", "mul", low, -1.0), slot]
    table = e.layer("Concat", "table", columns, axis=1)
    flat = e.layer("Permute", "columns", [table], order_type=1)
    if ranks > points:  # what lies behind the last place is larger than every cell
        flat = e.layer("Padding", "columns_filled", [flat], right=ranks - points, type=0, value=float(2 * SORTED_CELLS))
    rows = e.reshape(flat, (2, 1, ranks), f"{flat.name}_rows")
    cell = e.memory("cells", np.arange(cells, dtype=np.float32), (1, 1, cells))
    rank = e.memory("rank", np.zeros(cells, np.float32), (1, 1, cells))
    step = ranks // 2
    while step:
        tried = with_scalar(e, f"try{step}", "add", rank, float(step))
        there = crop(
            e, f"at{step}", nearest(e, f"seen{step}", rows, places_of(e, f"try{step}", tried, ranks)), [(0, 0, 1)]
        )
        ahead = e.layer("BinaryOp", f"ahead{step}", [cell, there], op_type=BINARY["sub"])
        reached = with_scalar(e, f"move{step}", "mul", threshold(e, f"reached{step}", ahead, -0.5), float(step))
        rank = e.layer("BinaryOp", f"rank{step}", [rank, reached], op_type=BINARY["add"])
        step //= 2
    seen = nearest(e, "seen", rows, places_of(e, "rank", rank, ranks))
    found, which = e.layers("Slice", ["found", "which"], [seen], slices=[1, 1], axis=0)
    distance = e.unary("apart", e.layer("BinaryOp", "gap", [cell, found], op_type=BINARY["sub"]), UNARY["abs"])
    return which, with_scalar(e, "hit", "rsub", threshold(e, "miss", distance, 0.5), 1.0)
