"""Lower ops that move data: reshape, transpose, concat, split, slice, gather, pad, expand, tile; and CumSum."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph.analysis.symbolic_sizes import least
from segc.passes.support.builder import text
from segc.passes.support.edit import optional
from segc.targets.ncnn.lower.attributes import (
    axes_of,
    axis_of,
    constant_input,
    constant_ints,
    int_attr,
    int_list_attr,
)
from segc.targets.ncnn.lower.layout import dims, layout_of, merge_axes
from segc.targets.ncnn.lower.net_builder import NetBuilder
from segc.targets.ncnn.lower.registry import lower_op
from segc.targets.ncnn.lower.size_expressions import RuntimeDim, SizeInputs, sizes_of
from segc.targets.ncnn.net.layer_checks import MAX_RANK, TO_END
from segc.targets.ncnn.net.net import (
    Blob,
    Refused,
    Shape,
    element_count,
    known_sizes,
    require,
    shape_text,
)
from segc.targets.ncnn.net.params import BINARY

MAX_CROPS = 32  # ranges that a Gather crops one by one; more are sampled
MAX_SAMPLED_CELLS = 2**20  # cells of a row that GridSample's float32 coordinates tell apart


@lower_op("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshape(builder: NetBuilder, node: gs.Node) -> None:
    """Reshape; no layer where input and output have the same blob shape."""
    x, y = node.inputs[0], node.outputs[0]
    wanted = layout_of(y)
    if wanted.shape.count(None) <= 1 or node.op != "Reshape":
        return builder.bind(y, builder.blob(x))
    require(wanted.axes is not None, f"its result has {len(y.shape)} axes with sizes known at run time only")
    assert wanted.axes is not None
    sizes = sizes_of(node.inputs[1])
    zeros = int_attr(node, "allowzero", 0) == 0  # then a size of 0 copies the input's
    sizes = [RuntimeDim(x, axis) if size == 0 and zeros else size for axis, size in enumerate(sizes)]
    size_inputs = SizeInputs(x)
    expression = size_inputs.expression([sizes[axis] for axis in reversed(wanted.axes)])
    inputs = [builder.blob(x), *(builder.blob(tensor) for tensor in size_inputs.tensors[1:])]
    return builder.bind(y, builder.add_layer("Reshape", "shaped", inputs, shape_expr=expression))


@lower_op("Shape")
def shape(builder: NetBuilder, node: gs.Node) -> None:
    """Refused: a Shape of known rank computes sizes and is lowered to no layer, so only others get here."""
    raise Refused(f"the rank of '{node.inputs[0].name}' is unknown")


@lower_op("Transpose")
def transpose(builder: NetBuilder, node: gs.Node) -> None:
    """Permute of groups of adjacent axes: one of up to four groups, otherwise two in a row."""
    x, y = node.inputs[0], node.outputs[0]
    sizes = dims(x.shape)
    perm = int_list_attr(node, "perm", range(len(sizes))[::-1])
    groups, order = merge_axes(sizes, perm)
    if order == sorted(order):
        return builder.bind(y, builder.blob(x))
    singles = [axis for axis, size in enumerate(sizes) if size != 1]
    if layout_of(y).shape.count(None) > 1 and len(singles) <= MAX_RANK:
        groups = [[axis] for axis in singles]  # sizes known at run time only cannot be split again after a merge
        order = [singles.index(axis) for axis in perm if axis in singles]
    grouped = tuple(element_count(tuple(sizes[axis] for axis in group)) for group in groups)
    if len(groups) <= MAX_RANK:
        return builder.bind(y, permute(builder, "permuted", builder.as_shape(x, grouped), order))
    first, second = two_steps(order)
    groups, order = merge_axes(grouped, first)
    blob = builder.as_shape(x, tuple(element_count(tuple(grouped[axis] for axis in group)) for group in groups))
    intermediate = permute(builder, "half", blob, order)
    permuted = tuple(grouped[axis] for axis in first)
    groups, order = merge_axes(permuted, second)
    shape = tuple(element_count(tuple(permuted[axis] for axis in group)) for group in groups)
    return builder.bind(y, permute(builder, "permuted", builder.reshape(intermediate, shape, f"{y.name}_half"), order))


def two_steps(perm: list[int]) -> tuple[list[int], list[int]]:
    """Two transposes that compose to `perm`, each of at most four groups of axes. Raises Refused where none do."""
    require(len(perm) <= 6, f"it moves {len(perm)} groups of axes, at most 6 are supported")
    ones = [2] * len(perm)
    for first in permutations(range(len(perm))):
        second = [first.index(axis) for axis in perm]
        if max(len(merge_axes(ones, first)[0]), len(merge_axes(ones, second)[0])) <= MAX_RANK:
            return list(first), second
    raise Refused(f"no two transposes of 4 groups compose to {perm}")


def permute(builder: NetBuilder, role: str, blob: Blob, perm: list[int]) -> Blob:
    """Permute; ncnn numbers permutations in lexicographic order, as itertools does."""
    order_type = list(permutations(range(len(perm)))).index(tuple(perm))
    return builder.add_layer("Permute", role, [blob], order_type=order_type)


@lower_op("Concat")
def concat(builder: NetBuilder, node: gs.Node) -> None:
    """Concat. Raises Refused where the layout of the result drops the axis."""
    y = node.outputs[0]
    layout = layout_of(y)
    axis = layout.position(axis_of(node, len(y.shape), 0))
    assert layout.axes is not None
    parts = [builder.align_axes(x, y.shape, layout.axes) for x in node.inputs]
    builder.bind(y, parts[0] if len(parts) == 1 else builder.add_layer("Concat", "joined", parts, axis=axis))


def with_axis(builder: NetBuilder, x: gs.Tensor, axis: int) -> tuple[Blob, int]:
    """The tensor as a blob in which the ONNX axis is an axis of its own, and the index of that blob axis.

    Where the tensor's layout drops or merges the axis, the blob is (all axes before it, the axis, all axes after it).
    """
    layout = layout_of(x)
    if layout.axes is not None and axis in layout.axes:
        return builder.blob(x), layout.axes.index(axis)
    sizes = dims(x.shape)
    return builder.as_shape(x, (element_count(sizes[:axis]), sizes[axis], element_count(sizes[axis + 1 :]))), 1


@lower_op("Split")
def split(builder: NetBuilder, node: gs.Node) -> None:
    """Slice."""
    x = node.inputs[0]
    axis = axis_of(node, len(x.shape), 0)
    blob, blob_axis = with_axis(builder, x, axis)
    sizes = known_sizes(tuple(dims(y.shape)[axis] for y in node.outputs), "a part")
    parts = [blob]
    if len(sizes) > 1:
        roles = [f"part{i}" for i in range(len(sizes))]
        parts = builder.add_multi_output("Slice", roles, [blob], slices=sizes, axis=blob_axis)
    for y, part in zip(node.outputs, parts, strict=True):
        builder.bind(y, part)


@lower_op("Slice")
def slice_(builder: NetBuilder, node: gs.Node) -> None:
    """Crop; steps are a Pooling with 1x1 windows, negative steps a Flip."""
    x, y = node.inputs[0], node.outputs[0]
    sizes = dims(x.shape)
    starts, ends = constant_ints(node, 1, "start"), constant_ints(node, 2, "end")
    axes = [a % len(sizes) for a in (constant_ints(node, 3, "axes") if optional(node, 3) else range(len(starts)))]
    steps = constant_ints(node, 4, "step") if optional(node, 4) else [1] * len(starts)
    selections: list[tuple[int, range]] = []  # (axis, cells), along sides of known size
    end_crops: list[tuple[int, int, int]] = []  # (axis, start, end), along sides known at run time only
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        side = sizes[axis]
        if side is None:
            end_crops.append((axis, *_runtime_crop(x.shape[axis], start, end, step)))
        else:
            selections.append((axis, range(side)[slice(start, end if end > -(2**62) else None, step)]))
    blob = builder.blob(x)
    if len(axes) == 1 and selections:
        blob, blob_axis = with_axis(builder, x, axes[0])
        return builder.bind(y, _select(builder, blob, [(blob_axis, selections[0][1])]))
    layout = layout_of(x)
    if end_crops:
        blob = crop(builder, "ends", blob, [(layout.position(axis), start, end) for axis, start, end in end_crops])
    partial = [(layout.position(axis), cells) for axis, cells in selections if cells != range(sizes[axis] or 0)]
    return builder.bind(y, _select(builder, blob, partial))


def _runtime_crop(side: Any, start: int, end: int, step: int) -> tuple[int, int]:
    """Start and end of a Crop along a side known at run time only; negative ones are relative to the side's end.

    ncnn does not clip a start. So this raises Refused unless the symbolic size `side` is large enough for both at every
    input size. An empty result fails when the engine runs.
    """
    require(step == 1, f"step {step} along a side known at run time only")
    end = min(end, TO_END)
    not_empty = start < end if (start < 0) == (end < 0) else start >= 0 or end == TO_END
    require(not_empty, "its result may be empty")
    needed = end if 0 < end < TO_END else -start if start < 0 else start - min(end, 0)
    require(needed <= least(side), f"it slices a side known at run time only, which may be shorter than {needed} cells")
    return start, end


def _select(builder: NetBuilder, blob: Blob, selections: list[tuple[int, range]]) -> Blob:
    """The cells of these ranges along blob axes: Crop, then steps, then Flip."""
    require(all(len(cells) > 0 for _, cells in selections), "its result is empty")
    backwards = [axis for axis, cells in selections if cells.step < 0 and len(cells) > 1]
    spans = [(axis, min(cells), max(cells) + 1, abs(cells.step)) for axis, cells in selections]
    crops = [(axis, low, high) for axis, low, high, _ in spans if (low, high) != (0, blob.shape[axis])]
    if crops:
        blob = crop(builder, "cut", blob, crops)
    steps = {axis: step for axis, low, high, step in spans if step != 1 and high - low > 1}
    if steps:
        require(len(blob.shape) == 3 and 0 not in steps, f"steps {sorted(steps.values())} of {shape_text(blob.shape)}")
        strides: dict[str, Any] = {"stride_h": steps.get(1, 1), "stride_w": steps.get(2, 1)}
        blob = builder.add_layer(
            "Pooling", "steps", [blob], pooling_type=0, kernel_h=1, kernel_w=1, pad_mode=1, **strides
        )
    return builder.add_layer("Flip", "flipped", [blob], axes=backwards) if backwards else blob


def crop(builder: NetBuilder, role: str, blob: Blob, spans: list[tuple[int, int, int]]) -> Blob:
    """Crop; spans: (blob axis, start, end)."""
    axes, starts, ends = zip(*sorted(spans), strict=True)
    return builder.add_layer("Crop", role, [blob], starts=starts, ends=ends, axes=axes)


@lower_op("Gather")
def gather(builder: NetBuilder, node: gs.Node) -> None:
    """Constant indices that form few ranges: Crops of the ranges. Other indices: sampled by GridSample."""
    x, y = node.inputs[0], node.outputs[0]
    axis = axis_of(node, len(x.shape), 0)
    side = dims(x.shape)[axis]
    if side is None:
        raise Refused("it gathers along a side known at run time only")
    if not isinstance(node.inputs[1], gs.Constant):
        index = builder.as_shape(node.inputs[1], (1, 1, element_count(dims(node.inputs[1].shape))))
        return builder.bind(y, gather_by_sampling(builder, x, axis, sample_grid(builder, "index", index, side)))
    indices = [index % side for index in constant_ints(node, 1, "list of indices")]
    require(bool(indices), "it has no indices")
    runs = ascending_runs(indices)
    if len(runs) > MAX_CROPS:
        across = (2 * np.array(indices, np.float64) + 1) / side - 1
        values = np.stack([across, np.zeros_like(across)]).astype(np.float32)
        grid = builder.add_constant(f"{y.name}_places", values, (2, 1, len(indices)))
        return builder.bind(y, gather_by_sampling(builder, x, axis, grid))
    blob, blob_axis = with_axis(builder, x, axis)
    parts = [crop(builder, f"pick{i}", blob, [(blob_axis, low, high)]) for i, (low, high) in enumerate(runs)]
    picked = parts[0] if len(parts) == 1 else builder.add_layer("Concat", "picked", parts, axis=blob_axis)
    return builder.bind(y, picked)


def sample_grid(builder: NetBuilder, role: str, index: Blob, side: int) -> Blob:
    """GridSample's grid (2, 1, n) for indices (1, 1, n) into a row of `side` cells: x is (2 * index + 1) / side - 1."""
    require(side <= MAX_SAMPLED_CELLS, f"it gathers from {side} cells, indices are exact up to {MAX_SAMPLED_CELLS}")
    scaled = builder.add_layer("BinaryOp", f"{role}_scaled", [index], op_type=BINARY["mul"], with_scalar=1, b=2 / side)
    across = builder.add_layer(
        "BinaryOp", f"{role}_across", [scaled], op_type=BINARY["add"], with_scalar=1, b=1 / side - 1
    )
    down = builder.add_layer("BinaryOp", f"{role}_down", [index], op_type=BINARY["mul"], with_scalar=1, b=0.0)
    return builder.add_layer("Concat", f"{role}_places", [across, down], axis=0)


def gather_by_sampling(builder: NetBuilder, x: gs.Tensor, axis: int, grid: Blob) -> Blob:
    """Gather along `axis` by GridSample with mode nearest, of a map with one row; grid (2, 1, n): see `sample_grid`."""
    sizes = dims(x.shape)
    before, side, after = element_count(sizes[:axis]), sizes[axis], element_count(sizes[axis + 1 :])
    count = grid.shape[2]
    if after == 1:
        rows = builder.as_shape(x, (before, 1, side))
        return sample_nearest(builder, "gathered", rows, grid)
    rows = permute(builder, "turned", builder.as_shape(x, (before, side, after)), [0, 2, 1])
    flat = builder.reshape(rows, (element_count((before, after)), 1, side), f"{x.name}_rows")
    sampled = sample_nearest(builder, "gathered", flat, grid)
    picked = builder.reshape(sampled, (before, after, count), f"{x.name}_picked")
    return permute(builder, "turned_back", picked, [0, 2, 1])


def sample_nearest(builder: NetBuilder, role: str, rows: Blob, grid: Blob) -> Blob:
    """GridSample with mode nearest; grid: (2, h, w), x in plane 0."""
    params: dict[str, Any] = {"sample_type": 2, "padding_mode": 2, "align_corner": 0, "permute_fusion": 1}
    return builder.add_layer("GridSample", role, [rows, grid], **params)


def ascending_runs(indices: list[int]) -> list[tuple[int, int]]:
    """The indices as consecutive ranges (start, end), end excluded, in order."""
    runs: list[tuple[int, int]] = []
    for index in indices:
        if runs and runs[-1][1] == index:
            runs[-1] = (runs[-1][0], index + 1)
        else:
            runs.append((index, index + 1))
    return runs


@lower_op("Pad")
def pad(builder: NetBuilder, node: gs.Node) -> None:
    """Padding; negative pads are a Crop."""
    x, y = node.inputs[0], node.outputs[0]
    sizes = dims(x.shape)
    mode = {"constant": 0, "edge": 1, "reflect": 2}.get(text(node, "mode", "constant"))
    if mode is None:
        raise Refused(f"mode is {text(node, 'mode')}")
    values = constant_ints(node, 1, "list of pads")
    axes = axes_of(node, 3, len(sizes)) or list(range(len(sizes)))
    value = float(constant_input(node, 2, "value").reshape(())) if optional(node, 2) is not None else 0.0
    require(bool(np.isfinite(value)), f"it pads with {value}")
    pads = {axis: (values[i], values[i + len(axes)]) for i, axis in enumerate(axes)}
    pads = {axis: pair for axis, pair in pads.items() if pair != (0, 0)}
    layout = layout_of(x)
    if layout.axes is not None and len(layout.shape) <= 3 and all(axis in layout.axes for axis in pads):
        blob_pads = {layout.axes.index(axis): pair for axis, pair in pads.items()}
        builder.bind(y, pad_blob(builder, builder.blob(x), blob_pads, mode, value))
        return
    # one axis at a time, as (all axes before it, the axis, all axes after it)
    blob, current = builder.blob(x), list(sizes)
    for axis, pair in pads.items():
        before, after = element_count(tuple(current[:axis])), element_count(tuple(current[axis + 1 :]))
        three_axes = builder.reshape(blob, (before, current[axis], after), f"{y.name}_axis{axis}")
        blob = pad_blob(builder, three_axes, {1: pair}, mode, value)
        current[axis] = blob.shape[1]
    builder.bind(y, blob)


def pad_blob(builder: NetBuilder, blob: Blob, pads: dict[int, tuple[int, int]], mode: int, value: float) -> Blob:
    """The blob with cells added before and after, by blob axis; negative numbers remove cells."""
    crops = []
    for axis, (low, high) in pads.items():
        if min(low, high) < 0:
            size = blob.shape[axis]
            if size is None:
                raise Refused("it crops a side known at run time only")
            crops.append((axis, max(0, -low), size - max(0, -high)))
    if crops:
        blob = crop(builder, "cut", blob, crops)
    names = [("left", "right"), ("top", "bottom"), ("front", "behind")]  # innermost axis first
    params: dict[str, Any] = {"type": mode, "value": value}
    for axis, (low, high) in pads.items():
        from_back = blob.rank - 1 - axis
        require(mode == 0 or from_back < 2, "it reflects or repeats channels")
        params.update({names[from_back][0]: max(0, low), names[from_back][1]: max(0, high)})
    grows = any(max(pair) > 0 for pair in pads.values())
    return builder.add_layer("Padding", "padded", [blob], **params) if grows else blob


@lower_op("Expand")
def expand(builder: NetBuilder, node: gs.Node) -> None:
    """Tile along the axes that grow."""
    x, y = node.inputs[0], node.outputs[0]
    layout = layout_of(y)
    require(layout.axes is not None, f"its result has {len(y.shape)} axes, ncnn has 4")
    assert layout.axes is not None
    blob = builder.align_axes(x, y.shape, layout.axes)
    builder.bind(y, tile_to(builder, blob, layout.shape))


def tile_to(builder: NetBuilder, blob: Blob, shape: Shape) -> Blob:
    """The blob repeated along the axes of size 1 until it has this shape."""
    if blob.shape == shape:
        return blob
    sizes = known_sizes(shape, "the result")
    repeats = [size if own == 1 else 1 for own, size in zip(blob.shape, sizes, strict=True)]
    return builder.add_layer("Tile", "tiled", [blob], repeats=repeats)


@lower_op("Tile")
def tile(builder: NetBuilder, node: gs.Node) -> None:
    """Tile."""
    x, y = node.inputs[0], node.outputs[0]
    repeats = constant_ints(node, 1, "list of repeats")
    layout = layout_of(y)
    require(layout.axes is not None, f"its result has {len(y.shape)} axes, ncnn has 4")
    assert layout.axes is not None
    blob = builder.align_axes(x, y.shape, layout.axes)
    builder.bind(y, builder.add_layer("Tile", "tiled", [blob], repeats=[repeats[axis] for axis in layout.axes]))


@lower_op("CumSum")
def cumulative_sum(builder: NetBuilder, node: gs.Node) -> None:
    """CumulativeSum."""
    x = node.inputs[0]
    forward = not int_attr(node, "exclusive", 0) and not int_attr(node, "reverse", 0)
    require(forward, "it is exclusive or runs backwards")
    blob, axis = with_axis(builder, x, constant_ints(node, 1, "axis")[0] % len(x.shape))
    builder.bind(node.outputs[0], builder.add_layer("CumulativeSum", "sums", [blob], axis=axis))
