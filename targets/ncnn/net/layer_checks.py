"""What each ncnn layer demands of its inputs, parameters and weights, and the shapes it makes of them.

A contract is a function of the layer that returns the shapes of its outputs, or raises Refused. They hold what was
measured on ncnn 1.0.20261020: what a layer accepts without complaint is not always what it computes rightly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import permutations

from segc.targets.ncnn.net.net import Dim, Layer, Refused, Shape, agree, known, require, text, total
from segc.targets.ncnn.net.params import PARAMS

Contract = Callable[[Layer], list[Shape]]
CONTRACTS: dict[str, Contract] = {}
MAX_RANK = 4
OPEN = 2**31 - 1  # an end of a Crop beyond the side's, which ncnn clips to it
REST = -1  # the size of a Reshape that follows from the others
MAX_ELEMENTS = 2**31 - 1  # ncnn's sizes are C ints


def check(layer: Layer) -> list[Shape]:
    """The shapes of the layer's outputs. Raises Refused when it breaks its contract."""
    require(layer.type in CONTRACTS, f"segc knows no ncnn layer {layer.type}")
    unknown = sorted(set(layer.params) - set(PARAMS[layer.type]))
    require(not unknown, f"{layer.type} has no parameter {', '.join(unknown)}")
    for blob in layer.inputs:
        _sane(blob.shape, blob.name)
    shapes = CONTRACTS[layer.type](layer)
    for shape in shapes:
        _sane(shape, layer.name)
    return shapes


def _sane(shape: Shape, name: str) -> None:
    require(1 <= len(shape) <= MAX_RANK, f"'{name}' has {len(shape)} axes, ncnn has at most {MAX_RANK}")
    require(all(size is None or size >= 1 for size in shape), f"'{name}' is empty: {text(shape)}")
    require((total(shape) or 1) <= MAX_ELEMENTS, f"'{name}' has {total(shape)} elements, ncnn's limit is 2^31 - 1")


def contract(*types: str) -> Callable[[Contract], Contract]:
    """Register a contract for these layer types."""

    def register(function: Contract) -> Contract:
        for each in types:
            assert each in PARAMS and each not in CONTRACTS, each
            CONTRACTS[each] = function
        return function

    return register


def arity(layer: Layer, count: int) -> list[Shape]:
    """The input shapes when there are `count` of them."""
    require(len(layer.inputs) == count, f"{layer.type} takes {count} inputs, not {len(layer.inputs)}")
    return [blob.shape for blob in layer.inputs]


def weighs(layer: Layer, *counts: int) -> None:
    """The weights have these numbers of elements, in order."""
    got = [weight.values.size for weight in layer.weights]
    require(got == list(counts), f"{layer.type} reads weights of {list(counts)} elements, not {got}")


def axis_of(layer: Layer, name: str, rank: int) -> int:
    """An axis parameter, which must count from the front."""
    axis = layer.whole(name, 0)
    require(0 <= axis < rank, f"{layer.type} has axis {axis}, its input {rank} axes")
    return axis


@contract(
    "AbsVal", "Clip", "CELU", "ELU", "Erf", "GELU", "HardSigmoid", "HardSwish", "Mish", "ReLU", "SELU", "Sigmoid",
    "Softplus", "Swish", "TanH", "Threshold", "UnaryOp",
)  # fmt: skip
def _unary(layer: Layer) -> list[Shape]:
    weighs(layer)
    return arity(layer, 1)


@contract("Input")
def _input(layer: Layer) -> list[Shape]:
    arity(layer, 0)
    weighs(layer)
    return [layer.outputs[0].shape]


@contract("MemoryData")
def _memory_data(layer: Layer) -> list[Shape]:
    arity(layer, 0)
    sizes = [layer.params[name] for name in ("c", "d", "h", "w") if name in layer.params]
    require(len(sizes) > 0, "MemoryData without a size would hold one number that nobody wrote")
    shape = tuple(int(size) for size in sizes)  # type: ignore[arg-type]
    weighs(layer, math.prod(shape))
    return [shape]


@contract("Split")
def _split(layer: Layer) -> list[Shape]:
    return arity(layer, 1) * len(layer.outputs)


@contract("BinaryOp")
def _binary(layer: Layer) -> list[Shape]:
    if layer.whole("with_scalar", 0):
        return arity(layer, 1)
    a, b = arity(layer, 2)
    # operands of different rank do not broadcast as NumPy's do, and some read memory that is not theirs
    require(len(a) == len(b), f"BinaryOp of {text(a)} and {text(b)}: the ranks differ")
    return [tuple(_broadcast(p, q, a, b) for p, q in zip(a, b, strict=True))]


def _broadcast(p: Dim, q: Dim, a: Shape, b: Shape) -> Dim:
    if p == 1 or q == 1:
        return q if p == 1 else p
    require(p == q or p is None or q is None, f"{text(a)} and {text(b)} do not broadcast")
    return q if p is None else p


@contract("Scale")
def _scale(layer: Layer) -> list[Shape]:
    shapes = arity(layer, 1)
    size = layer.whole("scale_data_size", 0)
    require(shapes[0][0] == size, f"Scale of {size} on {text(shapes[0])}")
    weighs(layer, *[size] * (1 + layer.whole("bias_term", 0)))
    return shapes


@contract("BatchNorm")
def _batch_norm(layer: Layer) -> list[Shape]:
    shapes = arity(layer, 1)
    channels = layer.whole("channels", 0)
    require(shapes[0][0] == channels, f"BatchNorm of {channels} channels on {text(shapes[0])}")
    weighs(layer, *[channels] * 4)
    return shapes


@contract("PReLU")
def _prelu(layer: Layer) -> list[Shape]:
    shapes = arity(layer, 1)
    count = layer.whole("num_slope", 0)
    require(count == 1 or shapes[0][0] == count, f"PReLU of {count} slopes on {text(shapes[0])}")
    require(len(shapes[0]) < MAX_RANK, "PReLU takes up to 3 axes")
    weighs(layer, count)
    return shapes


@contract("LayerNorm")
def _layer_norm(layer: Layer) -> list[Shape]:
    shapes = arity(layer, 1)
    size, last = layer.whole("affine_size", 0), shapes[0][-1]
    require(len(shapes[0]) == 2 and last == size, f"LayerNorm of {size} on {text(shapes[0])}: rows of that size wanted")
    weighs(layer, *[size] * 2 * layer.whole("affine", 1))
    return shapes


@contract("GroupNorm", "InstanceNorm")
def _group_norm(layer: Layer) -> list[Shape]:
    shapes = arity(layer, 1)
    channels, affine = layer.whole("channels", 0), layer.whole("affine", 1)
    require(len(shapes[0]) == 3, f"{layer.type} takes 3 axes, not {text(shapes[0])}")
    require(shapes[0][0] == channels, f"{layer.type} of {channels} channels on {text(shapes[0])}")
    require(
        channels % layer.whole("group", 1) == 0, f"{channels} channels do not form {layer.whole('group', 1)} groups"
    )
    weighs(layer, *[channels] * 2 * affine)
    return shapes


@contract("Softmax", "CumulativeSum")
def _along_axis(layer: Layer) -> list[Shape]:
    shapes = arity(layer, 1)
    axis_of(layer, "axis", len(shapes[0]))
    if layer.type == "Softmax":
        require(layer.whole("fixbug0", 0) == 1, "Softmax without fixbug0 counts axes in ncnn's old way")
    return shapes


@contract("Reduction")
def _reduction(layer: Layer) -> list[Shape]:
    (shape,) = arity(layer, 1)
    require(layer.whole("fixbug0", 0) == 1, "Reduction without fixbug0 is too old for ncnn")
    axes = layer.wholes("axes")
    in_range = all(0 <= axis < len(shape) for axis in axes)
    require(bool(axes) and in_range and len(set(axes)) == len(axes), f"Reduction over axes {axes} of {text(shape)}")
    if layer.whole("keepdims", 0):
        return [tuple(1 if at in axes else size for at, size in enumerate(shape))]
    return [tuple(size for at, size in enumerate(shape) if at not in axes) or (1,)]


@contract("Concat")
def _concat(layer: Layer) -> list[Shape]:
    shapes = [blob.shape for blob in layer.inputs]
    require(len(shapes) > 0, "Concat of nothing")
    axis = axis_of(layer, "axis", len(shapes[0]))
    for shape in shapes:
        same = agree((*shape[:axis], *shape[axis + 1 :]), (*shapes[0][:axis], *shapes[0][axis + 1 :]))
        require(same, f"Concat of {text(shape)} to {text(shapes[0])} along axis {axis}")
    whole = total_of([shape[axis] for shape in shapes])
    return [(*shapes[0][:axis], whole, *shapes[0][axis + 1 :])]


def total_of(sizes: list[Dim]) -> Dim:
    """Their sum, None when one is unknown."""
    return None if any(size is None for size in sizes) else sum(size for size in sizes if size is not None)


@contract("Slice")
def _slice(layer: Layer) -> list[Shape]:
    (shape,) = arity(layer, 1)
    axis, sizes = axis_of(layer, "axis", len(shape)), layer.wholes("slices")
    side = shape[axis]
    require(all(size > 0 for size in sizes), f"Slice into {sizes}: a part is empty")
    require(side is None or sum(sizes) == side, f"Slice of {side} into {sizes}")
    return [(*shape[:axis], size, *shape[axis + 1 :]) for size in sizes]


@contract("Crop")
def _crop(layer: Layer) -> list[Shape]:
    (shape,) = arity(layer, 1)
    made: list[Dim] = list(shape)
    for axis, start, end in zip(layer.wholes("axes"), layer.wholes("starts"), layer.wholes("ends"), strict=True):
        require(0 <= axis < len(shape), f"Crop along axis {axis} of {text(shape)}")
        side = shape[axis]
        if side is None and (start < 0 or end < 0 or end == OPEN):  # counted from an end that is known at run time
            made[axis] = _between(start, end)
            continue
        require(0 <= start < end and (side is None or end <= side), f"Crop {start}:{end} of {text(shape)}")
        made[axis] = end - start
    return [tuple(made)]


def _between(start: int, end: int) -> Dim:
    """Cells from start to end, where those below 0 count from the end of a side; None when the side's size decides."""
    if end == OPEN:
        return -start if start < 0 else None
    return end - start if (start < 0) == (end < 0) else None


@contract("Padding")
def _padding(layer: Layer) -> list[Shape]:
    (shape,) = arity(layer, 1)
    pads = {name: layer.whole(name, 0) for name in ("top", "bottom", "left", "right", "front", "behind")}
    require(min(pads.values()) >= 0, f"Padding by {min(pads.values())}: ncnn cannot cut with it")
    made = list(shape)
    pairs = [("left", "right"), ("top", "bottom"), ("front", "behind")][: min(len(shape), 3)]
    for at, (low, high) in enumerate(pairs, 1):
        size = shape[-at]
        if layer.whole("type", 0) == 2:
            require(size is None or max(pads[low], pads[high]) < size, f"reflecting {pads} of {text(shape)}")
        made[-at] = None if size is None else size + pads[low] + pads[high]
    unused = [pads[name] for pair in [("top", "bottom"), ("front", "behind")][len(pairs) - 1 :] for name in pair]
    require(not any(unused), f"Padding {pads} of {text(shape)}")
    return [tuple(made)]


@contract("Permute")
def _permute(layer: Layer) -> list[Shape]:
    (shape,) = arity(layer, 1)
    orders = list(permutations(range(len(shape))))
    at = layer.whole("order_type", 0)
    require(len(shape) >= 2 and 0 <= at < len(orders), f"Permute {at} of {text(shape)}")
    return [tuple(shape[axis] for axis in orders[at])]


@contract("Reshape")
def _reshape(layer: Layer) -> list[Shape]:
    if "shape_expr" in layer.params:
        return [_expressed(str(layer.params["shape_expr"]))]
    (shape,) = arity(layer, 1)
    made = tuple(layer.whole(name, 0) for name in ("c", "d", "h", "w") if name in layer.params)
    wanted, given = total(made), total(shape)
    if made.count(REST) == 1:
        return [tuple(None if size == REST else size for size in made)]
    require(min(made) >= 1, f"Reshape to {made}")
    require(given is None or wanted == given, f"Reshape of {text(shape)} to {text(made)}")
    return [made]


def _expressed(expression: str) -> Shape:
    """The shape that an expression of sizes, innermost first, gives as far as it is plain numbers."""
    parts, depth = [""], 0
    for character in expression:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return tuple(int(part) if part.isdecimal() else None for part in reversed(parts))


@contract("Tile")
def _tile(layer: Layer) -> list[Shape]:
    (shape,) = arity(layer, 1)
    repeats = layer.wholes("repeats")
    require(len(repeats) == len(shape) and min(repeats) >= 1, f"Tile of {text(shape)} by {repeats}")
    return [tuple(None if size is None else size * times for size, times in zip(shape, repeats, strict=True))]


@contract("Flip")
def _flip(layer: Layer) -> list[Shape]:
    (shape,) = arity(layer, 1)
    require(
        all(0 <= axis < len(shape) for axis in layer.wholes("axes")), f"Flip {layer.wholes('axes')} of {text(shape)}"
    )
    return [shape]


@contract("MatMul")
def _matmul(layer: Layer) -> list[Shape]:
    a, b = arity(layer, 2)
    require(len(a) == len(b) and len(a) >= 2, f"MatMul of {text(a)} and {text(b)}: the ranks differ")
    inner, columns = (b[-1], b[-2]) if layer.whole("trans_b", 0) else (b[-2], b[-1])
    require(agree((a[-1],), (inner,)), f"MatMul of {text(a)} and {text(b)}: {a[-1]} columns meet {inner} rows")
    outer = tuple(_broadcast(p, q, a, b) for p, q in zip(a[:-2], b[:-2], strict=True))
    return [(*outer, a[-2], columns)]


@contract("Gemm")
def _gemm(layer: Layer) -> list[Shape]:
    (a,) = arity(layer, 1)
    columns, inner = layer.whole("constant_n", 0), layer.whole("constant_k", 0)
    require(
        layer.whole("constant_b", 0) == 1 and layer.whole("trans_b", 0) == 1, "only a constant, transposed B is written"
    )
    require(len(a) == 2 and agree((a[1],), (inner,)), f"Gemm of {text(a)} with {inner} rows: 2 axes wanted")
    biased = layer.whole("constant_broadcast_type_c", 0) == 4
    weighs(layer, columns * inner, *([columns] if biased else []))
    return [(a[0], columns)]


@contract("InnerProduct")
def _inner_product(layer: Layer) -> list[Shape]:
    (x,) = arity(layer, 1)
    made, inner = layer.whole("num_output", 0), total(x)
    require(len(x) in (1, 3) and inner is not None, f"InnerProduct of {text(x)}: one row wanted")
    count = layer.whole("weight_data_size", 0)
    require(count == made * (inner or 0), f"{count} weights of InnerProduct make no {made} of {inner}")
    weighs(layer, count, *[made] * layer.whole("bias_term", 0))
    return [(made,)]


@contract("SDPA")
def _sdpa(layer: Layer) -> list[Shape]:
    q, k, v = arity(layer, 3)
    require(len(q) == len(k) == len(v) == 3, f"SDPA of {text(q)}, {text(k)}, {text(v)}: 3 axes each wanted")
    shared = q[0] is not None and k[0] is not None and q[0] % k[0] == 0  # several heads may read the same keys
    require(shared and agree(q[2:], k[2:]) and agree(k[:2], v[:2]), f"SDPA of {text(q)}, {text(k)}, {text(v)}")
    return [(q[0], q[1], v[2])]


@contract("DetectionOutput")
def _detection_output(layer: Layer) -> list[Shape]:
    location, confidence, boxes = arity(layer, 3)
    count = known(boxes, "the boxes")[0]
    classes = known(confidence, "the scores")[0]
    fits = location == (4 * count,) and classes > 1 and confidence == (classes, count) and boxes == (count, 4)
    require(fits, f"DetectionOutput of {text(location)}, {text(confidence)}, {text(boxes)}")
    kept = layer.whole("keep_top_k", 0)
    require(1 <= kept <= count and kept == layer.whole("nms_top_k", 0), f"DetectionOutput keeps {kept} of {count}")
    return [(kept, 6)]


def spatial(layer: Layer, shape: Shape) -> tuple[Dim, Dim, Dim]:
    """The three axes that a layer on maps takes; given 4 axes ncnn silently drops one."""
    if len(shape) != 3:
        raise Refused(f"{layer.type} takes 3 axes, not {text(shape)}")
    return shape[0], shape[1], shape[2]
