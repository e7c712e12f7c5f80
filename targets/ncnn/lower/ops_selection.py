"""Lower TopK and ScatterElements, for which ncnn has no layer, exactly.

TopK with indices sorts (sorting.py). ScatterElements of K updates at distinct indices sorts the indices; each cell of
the result then looks its own position up among them by bisection, one GridSample with mode nearest per step. Cells that
find themselves take their update, the others keep their value.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from segc.passes.support.builder import RewriteNotApplicable, text
from segc.passes.support.distinct_indices import require_distinct
from segc.targets.ncnn.lower.attributes import (
    axis_of,
    constant_ints,
    int_attr,
)
from segc.targets.ncnn.lower.layout import dims
from segc.targets.ncnn.lower.net_builder import NetBuilder
from segc.targets.ncnn.lower.ops_math import threshold, with_scalar
from segc.targets.ncnn.lower.ops_matrix import reduction
from segc.targets.ncnn.lower.ops_movement import crop, sample_grid, sample_nearest, with_axis
from segc.targets.ncnn.lower.registry import lower_op
from segc.targets.ncnn.lower.sorting import LOWEST, MAX_SORTED_CELLS, sort_descending
from segc.targets.ncnn.net.net import (
    Blob,
    Refused,
    element_count,
    known_sizes,
    require,
)
from segc.targets.ncnn.net.params import BINARY, UNARY


@lower_op("TopK")
def top_k(builder: NetBuilder, node: gs.Node) -> None:
    """TopK: values alone, of up to two cells, by maxima; with indices, along a single row, by sorting."""
    x, (values, indices) = node.inputs[0], node.outputs
    axis = axis_of(node, len(x.shape), -1)
    count = constant_ints(node, 1, "number of cells")[0]
    require(int_attr(node, "largest", 1) == 1, "it wants the smallest cells")
    if count <= 2 and not indices.outputs:
        return builder.bind(values, _first_two(builder, x, axis, count))
    sizes = known_sizes(dims(x.shape), f"'{x.name}'")
    one_row = element_count(sizes) == sizes[axis]
    require(one_row, f"its indices along axis {axis} of {list(sizes)} are used, ncnn sorts a single row only")
    largest, positions = sort_descending(builder, "sorted", builder.as_shape(x, (1, sizes[axis])), count)
    builder.bind(values, largest)
    builder.bind(indices, positions)
    return None


def _first_two(builder: NetBuilder, x: gs.Tensor, axis: int, count: int) -> Blob:
    """The largest cell along an axis and, for count 2, the second largest; they are equal where the maximum repeats."""
    blob, blob_axis = with_axis(builder, x, axis)
    largest = reduction(builder, "most", blob, "max", [blob_axis])
    if count == 1:
        return largest
    distance = builder.add_layer("BinaryOp", "distance", [largest, blob], op_type=BINARY["sub"])
    is_smaller = threshold(builder, "behind", distance, 0.0)
    is_largest = with_scalar(builder, "first", "rsub", is_smaller, 1.0)
    penalty = with_scalar(builder, "lowered", "mul", is_largest, LOWEST)
    without_largest = builder.add_layer("BinaryOp", "rest", [blob, penalty], op_type=BINARY["add"])
    runner_up = reduction(builder, "other", without_largest, "max", [blob_axis])
    repeats = threshold(builder, "several", reduction(builder, "count", is_largest, "sum", [blob_axis]), 1.5)
    second = choose(builder, "second", repeats, largest, runner_up)
    return builder.add_layer("Concat", "two", [largest, second], axis=blob_axis)


def choose(builder: NetBuilder, role: str, mask: Blob, a: Blob, b: Blob) -> Blob:
    """mask * a + (1 - mask) * b."""
    chosen = builder.add_layer("BinaryOp", f"{role}_chosen", [mask, a], op_type=BINARY["mul"])
    rest = with_scalar(builder, f"{role}_unmasked", "rsub", mask, 1.0)
    other = builder.add_layer("BinaryOp", f"{role}_other", [rest, b], op_type=BINARY["mul"])
    return builder.add_layer("BinaryOp", role, [chosen, other], op_type=BINARY["add"])


@lower_op("ScatterElements")
def scatter(builder: NetBuilder, node: gs.Node) -> None:
    """ScatterElements: constant indices that form a range by Concat, distinct ones along the last axis by look-up."""
    data, indices, updates = node.inputs
    y = node.outputs[0]
    axis = axis_of(node, len(data.shape), 0)
    require(text(node, "reduction", "none") == "none", f"reduction is {text(node, 'reduction')}")
    data_sizes = known_sizes(dims(data.shape), f"'{data.name}'")
    index_sizes = known_sizes(dims(indices.shape), f"'{indices.name}'")
    same = (*data_sizes[:axis], *data_sizes[axis + 1 :]) == (*index_sizes[:axis], *index_sizes[axis + 1 :])
    require(same, f"it writes {list(index_sizes)} into a part of {list(data_sizes)}")
    if isinstance(indices, gs.Constant):
        return builder.bind(y, _replace_range(builder, data, indices.values, updates, axis))
    require(axis == len(data_sizes) - 1, f"it writes along axis {axis}, not along the last")
    index_row = shared_row(indices)
    try:
        require_distinct(indices, data_sizes[-1])
    except RewriteNotApplicable as reason:
        raise Refused(str(reason)) from reason
    outer, points, cells = element_count(data_sizes[:-1]), index_sizes[-1], data_sizes[-1]
    slots, hit = look_up(builder, builder.as_shape(index_row, (1, points)), points, cells)
    rows = builder.as_shape(updates, (outer, 1, points))
    update_of_cell = sample_nearest(builder, "new", rows, sample_grid(builder, "slot", slots, points))
    not_hit = with_scalar(builder, "kept", "rsub", hit, 1.0)
    old_rows = builder.as_shape(data, (outer, 1, cells))
    old = builder.add_layer("BinaryOp", "old", [old_rows, not_hit], op_type=BINARY["mul"])
    new = builder.add_layer("BinaryOp", "put", [update_of_cell, hit], op_type=BINARY["mul"])
    return builder.bind(y, builder.add_layer("BinaryOp", "scattered", [old, new], op_type=BINARY["add"]))


def _replace_range(builder: NetBuilder, data: gs.Tensor, indices: np.ndarray, updates: gs.Tensor, axis: int) -> Blob:
    """The data with the cells of one range along `axis` replaced. Raises Refused where the indices form no range."""
    count, side = indices.shape[axis], dims(data.shape)[axis]
    assert side is not None
    index_rows = np.moveaxis(indices, axis, -1).reshape(-1, count) % side
    low = int(index_rows[0, 0])
    require(bool((index_rows == np.arange(low, low + count)).all()), "its constant indices form no range")
    blob, blob_axis = with_axis(builder, data, axis)
    shape = (*blob.shape[:blob_axis], count, *blob.shape[blob_axis + 1 :])
    parts = [crop(builder, "before", blob, [(blob_axis, 0, low)])] if low else []
    parts.append(builder.as_shape(updates, shape))
    parts += [crop(builder, "after", blob, [(blob_axis, low + count, side)])] if low + count < side else []
    return builder.add_layer("Concat", "replaced", parts, axis=blob_axis) if len(parts) > 1 else parts[0]


def shared_row(indices: gs.Tensor) -> gs.Tensor:
    """The tensor with the one row that all rows of `indices` repeat. Raises Refused where rows may differ."""
    tensor, count = indices, dims(indices.shape)[-1]
    while element_count(dims(tensor.shape)) != count:
        producer = tensor.inputs[0] if tensor.inputs else None
        repeats = producer is not None and producer.op in ("Expand", "Unsqueeze", "Identity")
        if producer is None or not repeats or dims(tensor.shape)[-1] != count:
            raise Refused("its indices differ from row to row")
        tensor = producer.inputs[0]
    return tensor


def look_up(builder: NetBuilder, indices: Blob, points: int, cells: int) -> tuple[Blob, Blob]:
    """For each cell the slot of `indices` (1, points) that names it, and 1 where there is one: both (1, 1, cells).

    The indices are sorted ascending and padded to a power of two, `ranks`. A bisection in `log2(ranks)` steps finds the
    rank of the largest index that does not exceed the cell's own position.
    """
    negated, slot = sort_descending(builder, "ascending", with_scalar(builder, "negated", "mul", indices, -1.0), points)
    ranks = 1 << (points - 1).bit_length()
    columns = [with_scalar(builder, "upwards", "mul", negated, -1.0), slot]
    table = builder.add_layer("Concat", "table", columns, axis=1)
    flat = builder.add_layer("Permute", "columns", [table], order_type=1)
    if ranks > points:  # the padding is larger than every position
        flat = builder.add_layer(
            "Padding", "columns_filled", [flat], right=ranks - points, type=0, value=float(2 * MAX_SORTED_CELLS)
        )
    rows = builder.reshape(flat, (2, 1, ranks), f"{flat.name}_rows")
    cell = builder.add_constant("cells", np.arange(cells, dtype=np.float32), (1, 1, cells))
    rank = builder.add_constant("rank", np.zeros(cells, np.float32), (1, 1, cells))
    step = ranks // 2
    while step:
        candidate = with_scalar(builder, f"try{step}", "add", rank, float(step))
        grid = sample_grid(builder, f"try{step}", candidate, ranks)
        index = crop(builder, f"at{step}", sample_nearest(builder, f"seen{step}", rows, grid), [(0, 0, 1)])
        ahead = builder.add_layer("BinaryOp", f"ahead{step}", [cell, index], op_type=BINARY["sub"])
        not_beyond = threshold(builder, f"reached{step}", ahead, -0.5)
        advance = with_scalar(builder, f"move{step}", "mul", not_beyond, float(step))
        rank = builder.add_layer("BinaryOp", f"rank{step}", [rank, advance], op_type=BINARY["add"])
        step //= 2
    entry = sample_nearest(builder, "seen", rows, sample_grid(builder, "rank", rank, ranks))
    index, slot_of_cell = builder.add_multi_output("Slice", ["found", "which"], [entry], slices=[1, 1], axis=0)
    gap = builder.add_layer("BinaryOp", "gap", [cell, index], op_type=BINARY["sub"])
    miss = threshold(builder, "miss", builder.add_unary("apart", gap, UNARY["abs"]), 0.5)
    return slot_of_cell, with_scalar(builder, "hit", "rsub", miss, 1.0)
