"""Rows for ops that move numbers: reshaping, transposing, cutting, joining, repeating."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph.analysis.symbolic_sizes import least
from segc.passes.support.builder import text
from segc.passes.support.edit import optional
from segc.targets.ncnn.lower.attributes import axes as axes_of
from segc.targets.ncnn.lower.attributes import axis as axis_of
from segc.targets.ncnn.lower.attributes import constant, constant_ints, whole, wholes
from segc.targets.ncnn.lower.layout import dims, merged
from segc.targets.ncnn.lower.lowering import Emission, row
from segc.targets.ncnn.lower.size_expressions import Leaf, References, sizes_of
from segc.targets.ncnn.net.layer_checks import MAX_RANK, OPEN
from segc.targets.ncnn.net.net import Blob, Refused, Shape, known, require, total
from segc.targets.ncnn.net.net import text as sizes_text
from segc.targets.ncnn.net.params import BINARY

MANY = 32  # ranges that are cut out one by one
EXACT_PLACES = 2**20  # cells of a row in which GridSample finds each one


@row("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshape(e: Emission, node: gs.Node) -> None:
    """Reshape, unless both sides have the same shape in ncnn."""
    x, y = node.inputs[0], node.outputs[0]
    wanted = e.layout(y)
    if wanted.shape.count(None) <= 1 or node.op != "Reshape":
        return e.put(y, e.blob(x))
    require(wanted.axes is not None, f"it makes {len(y.shape)} axes with sizes known at run time only")
    assert wanted.axes is not None
    sizes = sizes_of(node.inputs[1])
    zeros = whole(node, "allowzero", 0) == 0
    sizes = [Leaf(x, at) if size == 0 and zeros else size for at, size in enumerate(sizes)]
    references = References(x)
    expression = references.text([sizes[axis] for axis in reversed(wanted.axes)])
    inputs = [e.blob(x), *(e.blob(tensor) for tensor in references.tensors[1:])]
    return e.put(y, e.layer("Reshape", "shaped", inputs, shape_expr=expression))


@row("Shape")
def shape(e: Emission, node: gs.Node) -> None:
    """Sizes give no layer; reaching this they are none."""
    raise Refused(f"the rank of '{node.inputs[0].name}' is unknown")


@row("Transpose")
def transpose(e: Emission, node: gs.Node) -> None:
    """Permute of the groups of axes that move together, at most four of them."""
    x, y = node.inputs[0], node.outputs[0]
    sizes = dims(x.shape)
    perm = wholes(node, "perm", range(len(sizes))[::-1])
    groups, order = merged(sizes, perm)
    if order == sorted(order):
        return e.put(y, e.blob(x))
    singles = [axis for axis, size in enumerate(sizes) if size != 1]
    if e.layout(y).shape.count(None) > 1 and len(singles) <= MAX_RANK:
        groups = [[axis] for axis in singles]  # together these axes would have one size, which nothing takes apart
        order = [singles.index(axis) for axis in perm if axis in singles]
    grouped = tuple(total(tuple(sizes[axis] for axis in group)) for group in groups)
    if len(groups) <= MAX_RANK:
        return e.put(y, permute(e, "permuted", e.shaped(x, grouped), order))
    first, second = two_steps(order)
    groups, order = merged(grouped, first)
    blob = e.shaped(x, tuple(total(tuple(grouped[axis] for axis in group)) for group in groups))
    between = permute(e, "half", blob, order)
    moved = tuple(grouped[axis] for axis in first)
    groups, order = merged(moved, second)
    shape = tuple(total(tuple(moved[axis] for axis in group)) for group in groups)
    return e.put(y, permute(e, "permuted", e.reshape(between, shape, f"{y.name}_half"), order))


def two_steps(perm: list[int]) -> tuple[list[int], list[int]]:
    """Two transposes, one after the other, that make `perm`, each of at most four groups. Raises Refused."""
    require(len(perm) <= 6, f"it moves {len(perm)} groups of axes, up to 6 are taken apart")
    ones = [2] * len(perm)
    for first in permutations(range(len(perm))):
        second = [first.index(axis) for axis in perm]
        if max(len(merged(ones, first)[0]), len(merged(ones, second)[0])) <= MAX_RANK:
            return list(first), second
    raise Refused(f"no two steps of 4 groups make {perm}")


def permute(e: Emission, role: str, blob: Blob, perm: list[int]) -> Blob:
    """Permute, numbered as itertools counts permutations."""
    at = list(permutations(range(len(perm)))).index(tuple(perm))
    return e.layer("Permute", role, [blob], order_type=at)


@row("Concat")
def concat(e: Emission, node: gs.Node) -> None:
    """Concat along an axis that the result has in ncnn."""
    y = node.outputs[0]
    axis = axis_of(node, len(y.shape), 0)
    layout = e.layout(y)
    at = layout.place(axis)
    assert layout.axes is not None
    parts = [e.arranged(x, y.shape, layout.axes) for x in node.inputs]
    e.put(y, parts[0] if len(parts) == 1 else e.layer("Concat", "joined", parts, axis=at))


def with_axis(e: Emission, x: gs.Tensor, axis: int) -> tuple[Blob, int]:
    """The tensor in a shape in which `axis` has a place of its own, and that place.

    Where its layout merged or dropped the axis: all before it, the axis, all behind it.
    """
    layout = e.layout(x)
    if layout.axes is not None and axis in layout.axes:
        return e.blob(x), layout.axes.index(axis)
    sizes = dims(x.shape)
    return e.shaped(x, (total(sizes[:axis]), sizes[axis], total(sizes[axis + 1 :]))), 1


@row("Split")
def split(e: Emission, node: gs.Node) -> None:
    """Slice."""
    x = node.inputs[0]
    axis = axis_of(node, len(x.shape), 0)
    blob, at = with_axis(e, x, axis)
    sizes = known(tuple(dims(y.shape)[axis] for y in node.outputs), "a part")
    for y, part in zip(node.outputs, slices(e, blob, at, sizes), strict=True):
        e.put(y, part)


def slices(e: Emission, blob: Blob, at: int, sizes: tuple[int, ...]) -> list[Blob]:
    """The parts of these sizes along an axis."""
    if len(sizes) == 1:
        return [blob]
    return e.layers("Slice", [f"part{i}" for i in range(len(sizes))], [blob], slices=sizes, axis=at)


@row("Slice")
def slice_(e: Emission, node: gs.Node) -> None:
    """Crop; whole steps of a map by pooling over single cells, backwards by Flip."""
    x, y = node.inputs[0], node.outputs[0]
    sizes = dims(x.shape)
    starts, ends = constant_ints(node, 1, "start"), constant_ints(node, 2, "end")
    axes = [a % len(sizes) for a in (constant_ints(node, 3, "axes") if optional(node, 3) else range(len(starts)))]
    steps = constant_ints(node, 4, "step") if optional(node, 4) else [1] * len(starts)
    cuts: list[tuple[int, range]] = []  # of known sides
    off_ends: list[tuple[int, int, int]] = []  # of the others: axis, start, end
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        side = sizes[axis]
        if side is None:
            off_ends.append((axis, *_bounds(x.shape[axis], start, end, step)))
        else:
            cuts.append((axis, range(side)[slice(start, end if end > -(2**62) else None, step)]))
    blob = e.blob(x)
    if len(axes) == 1 and cuts:
        blob, at = with_axis(e, x, axes[0])
        return e.put(y, _cut(e, blob, [(at, cuts[0][1])]))
    if off_ends:
        layout = e.layout(x)
        blob = crop(e, "ends", blob, [(layout.place(axis), start, end) for axis, start, end in off_ends])
    places = [(e.layout(x).place(axis), cells) for axis, cells in cuts if cells != range(sizes[axis] or 0)]
    return e.put(y, _cut(e, blob, places))


def _bounds(side: Any, start: int, end: int, step: int) -> tuple[int, int]:
    """Start and end of a cut that ncnn counts as ONNX does, whatever the side is; a negative one from the side's end.

    Raises Refused unless the side, a size known at run time only, is known to hold both: ncnn does not clip a start.
    Of an empty result ncnn says so itself, when it runs.
    """
    require(step == 1, f"step {step} along a side that is known at run time only")
    end = min(end, OPEN)
    filled = start < end if (start < 0) == (end < 0) else start >= 0 or end == OPEN
    require(filled, "its result may be empty")
    needed = end if 0 < end < OPEN else -start if start < 0 else start - min(end, 0)
    require(
        needed <= least(side), f"it cuts a side that is known at run time only; it may have fewer than {needed} cells"
    )
    return start, end


def _cut(e: Emission, blob: Blob, cuts: list[tuple[int, range]]) -> Blob:
    """The cells of these ranges."""
    require(all(len(cells) > 0 for _, cells in cuts), "its result is empty")
    backwards = [at for at, cells in cuts if cells.step < 0 and len(cells) > 1]
    spans = [(at, min(cells), max(cells) + 1, abs(cells.step)) for at, cells in cuts]
    needed = [(at, low, high) for at, low, high, _ in spans if (low, high) != (0, blob.shape[at])]
    if needed:
        blob = crop(e, "cut", blob, needed)
    steps = {at: step for at, low, high, step in spans if step != 1 and high - low > 1}
    if steps:
        require(
            len(blob.shape) == 3 and 0 not in steps, f"steps {sorted(steps.values())} within {sizes_text(blob.shape)}"
        )
        strides: dict[str, Any] = {"stride_h": steps.get(1, 1), "stride_w": steps.get(2, 1)}
        blob = e.layer("Pooling", "steps", [blob], pooling_type=0, kernel_h=1, kernel_w=1, pad_mode=1, **strides)
    return e.layer("Flip", "flipped", [blob], axes=backwards) if backwards else blob


def crop(e: Emission, role: str, blob: Blob, cuts: list[tuple[int, int, int]]) -> Blob:
    """Crop to start:end along axes."""
    axes, starts, ends = zip(*sorted(cuts), strict=True)
    return e.layer("Crop", role, [blob], starts=starts, ends=ends, axes=axes)


@row("Gather")
def gather(e: Emission, node: gs.Node) -> None:
    """Constant indices: Crops of the ranges that they form, GridSample where these are many."""
    x, y = node.inputs[0], node.outputs[0]
    axis = axis_of(node, len(x.shape), 0)
    side = dims(x.shape)[axis]
    if side is None:
        raise Refused("it picks from a side that is known at run time only")
    if not isinstance(node.inputs[1], gs.Constant):
        index = e.shaped(node.inputs[1], (1, 1, total(dims(node.inputs[1].shape))))
        return e.put(y, gathered(e, x, axis, places_of(e, "index", index, side)))
    indices = [index % side for index in constant_ints(node, 1, "list of indices")]
    require(bool(indices), "it picks nothing")
    runs = _runs(indices)
    if len(runs) > MANY:
        at = (2 * np.array(indices, np.float64) + 1) / side - 1
        places = np.stack([at, np.zeros_like(at)]).astype(np.float32)
        return e.put(y, gathered(e, x, axis, e.memory(f"{y.name}_places", places, (2, 1, len(indices)))))
    blob, at_axis = with_axis(e, x, axis)
    parts = [crop(e, f"pick{i}", blob, [(at_axis, low, high)]) for i, (low, high) in enumerate(runs)]
    return e.put(y, parts[0] if len(parts) == 1 else e.layer("Concat", "picked", parts, axis=at_axis))


def places_of(e: Emission, role: str, index: Blob, side: int) -> Blob:
    """Indices (1, 1, n) below `side` as places (2, 1, n) for GridSample: that of cell i is (2i + 1) / side - 1."""
    require(side <= EXACT_PLACES, f"it picks among {side} cells, places are exact up to {EXACT_PLACES}")
    scaled = e.layer("BinaryOp", f"{role}_scaled", [index], op_type=BINARY["mul"], with_scalar=1, b=2 / side)
    across = e.layer("BinaryOp", f"{role}_across", [scaled], op_type=BINARY["add"], with_scalar=1, b=1 / side - 1)
    down = e.layer("BinaryOp", f"{role}_down", [index], op_type=BINARY["mul"], with_scalar=1, b=0.0)
    return e.layer("Concat", f"{role}_places", [across, down], axis=0)


def gathered(e: Emission, x: gs.Tensor, axis: int, places: Blob) -> Blob:
    """The cells of `x` along `axis` at these places: GridSample of the nearest in a map of one row."""
    sizes = dims(x.shape)
    before, side, after = total(sizes[:axis]), sizes[axis], total(sizes[axis + 1 :])
    count = places.shape[2]
    if after == 1:
        rows = e.shaped(x, (before, 1, side))
        return nearest(e, "gathered", rows, places)
    rows = permute(e, "turned", e.shaped(x, (before, side, after)), [0, 2, 1])
    flat = e.reshape(rows, (total((before, after)), 1, side), f"{x.name}_rows")
    made = e.reshape(nearest(e, "gathered", flat, places), (before, after, count), f"{x.name}_picked")
    return permute(e, "turned_back", made, [0, 2, 1])


def nearest(e: Emission, role: str, rows: Blob, places: Blob) -> Blob:
    """GridSample of the nearest cell at places (2, h, w)."""
    return e.layer("GridSample", role, [rows, places], sample_type=2, padding_mode=2, align_corner=0, permute_fusion=1)


def _runs(indices: list[int]) -> list[tuple[int, int]]:
    """Ascending ranges, end excluded, that give these indices in order."""
    found: list[tuple[int, int]] = []
    for index in indices:
        if found and found[-1][1] == index:
            found[-1] = (found[-1][0], index + 1)
        else:
            found.append((index, index + 1))
    return found


@row("Pad")
def pad(e: Emission, node: gs.Node) -> None:
    """Padding; what is negative cuts and is a Crop."""
    x, y = node.inputs[0], node.outputs[0]
    sizes = dims(x.shape)
    mode = {"constant": 0, "edge": 1, "reflect": 2}.get(text(node, "mode", "constant"))
    if mode is None:
        raise Refused(f"mode is {text(node, 'mode')}")
    listed = constant_ints(node, 1, "list of pads")
    axes = axes_of(node, 3, len(sizes)) or list(range(len(sizes)))
    value = float(constant(node, 2, "value").reshape(())) if optional(node, 2) is not None else 0.0
    require(bool(np.isfinite(value)), f"it pads with {value}")
    pads = {axis: (listed[i], listed[i + len(axes)]) for i, axis in enumerate(axes)}
    pads = {axis: pair for axis, pair in pads.items() if pair != (0, 0)}
    layout = e.layout(x)
    if layout.axes is not None and len(layout.shape) <= 3 and all(axis in layout.axes for axis in pads):
        e.put(y, padded(e, e.blob(x), {layout.axes.index(axis): pair for axis, pair in pads.items()}, mode, value))
        return
    # one axis at a time: all before it, the axis, all behind it
    made, known_sizes = e.blob(x), list(sizes)
    for axis, pair in pads.items():
        three = (total(tuple(known_sizes[:axis])), known_sizes[axis], total(tuple(known_sizes[axis + 1 :])))
        made = padded(e, e.reshape(made, three, f"{y.name}_axis{axis}"), {1: pair}, mode, value)
        known_sizes[axis] = made.shape[1]
    e.put(y, made)


def padded(e: Emission, blob: Blob, pads: dict[int, tuple[int, int]], mode: int, value: float) -> Blob:
    """The blob with cells added before and after each place, or cut off where their number is negative."""
    cuts = []
    for at, (low, high) in pads.items():
        if min(low, high) < 0:
            size = blob.shape[at]
            if size is None:
                raise Refused("it cuts a side that is known at run time only")
            cuts.append((at, max(0, -low), size - max(0, -high)))
    if cuts:
        blob = crop(e, "cut", blob, cuts)
    names = [("left", "right"), ("top", "bottom"), ("front", "behind")]
    params: dict[str, Any] = {"type": mode, "value": value}
    for at, (low, high) in pads.items():
        back = blob.rank - 1 - at
        require(mode == 0 or back < 2, "it reflects or repeats channels")
        params.update({names[back][0]: max(0, low), names[back][1]: max(0, high)})
    grows = any(max(pair) > 0 for pair in pads.values())
    return e.layer("Padding", "padded", [blob], **params) if grows else blob


@row("Expand")
def expand(e: Emission, node: gs.Node) -> None:
    """Tile of the axes that grow."""
    x, y = node.inputs[0], node.outputs[0]
    layout = e.layout(y)
    require(layout.axes is not None, f"it makes {len(y.shape)} axes, ncnn has 4")
    assert layout.axes is not None
    blob = e.arranged(x, y.shape, layout.axes)
    e.put(y, tile(e, blob, layout.shape))


def tile(e: Emission, blob: Blob, shape: Shape) -> Blob:
    """The blob repeated along the axes of size 1 until it has this shape."""
    if blob.shape == shape:
        return blob
    sizes = known(shape, "the result")
    repeats = [size if have == 1 else 1 for have, size in zip(blob.shape, sizes, strict=True)]
    return e.layer("Tile", "tiled", [blob], repeats=repeats)


@row("Tile")
def tile_(e: Emission, node: gs.Node) -> None:
    """Tile."""
    x, y = node.inputs[0], node.outputs[0]
    repeats = constant_ints(node, 1, "list of repeats")
    layout = e.layout(y)
    require(layout.axes is not None, f"it makes {len(y.shape)} axes, ncnn has 4")
    assert layout.axes is not None
    blob = e.arranged(x, y.shape, layout.axes)
    e.put(y, e.layer("Tile", "tiled", [blob], repeats=[repeats[axis] for axis in layout.axes]))


@row("CumSum")
def cumulative_sum(e: Emission, node: gs.Node) -> None:
    """CumulativeSum."""
    x = node.inputs[0]
    require(not whole(node, "exclusive", 0) and not whole(node, "reverse", 0), "it is exclusive or runs backwards")
    axis = constant_ints(node, 1, "axis")[0] % len(x.shape)
    blob, at = with_axis(e, x, axis)
    e.put(node.outputs[0], e.layer("CumulativeSum", "sums", [blob], axis=at))
