"""Layer checks: what each ncnn layer accepts as inputs, parameters and weights, and the shapes of its outputs.

A layer check is a function of a layer that returns its output shapes or raises Refused. The checks record what was
measured on ncnn 1.0.20261020, which accepts more than it computes correctly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import permutations

from segc.targets.ncnn.net.net import (
    Dim,
    Layer,
    Refused,
    Shape,
    compatible,
    element_count,
    known_sizes,
    require,
    shape_text,
)
from segc.targets.ncnn.net.params import PARAMS

LayerCheck = Callable[[Layer], list[Shape]]
LAYER_CHECKS: dict[str, LayerCheck] = {}
MAX_RANK = 4
TO_END = 2**31 - 1  # an end of a Crop, which ncnn clips to the side
INFERRED = -1  # a size of a Reshape that follows from the others
MAX_ELEMENTS = 2**31 - 1  # ncnn's sizes are C ints


def check(layer: Layer) -> list[Shape]:
    """The shapes of the layer's outputs. Raises Refused where ncnn would not compute the layer correctly."""
    require(layer.type in LAYER_CHECKS, f"segc knows no ncnn layer {layer.type}")
    unknown = sorted(set(layer.params) - set(PARAMS[layer.type]))
    require(not unknown, f"{layer.type} has no parameter {', '.join(unknown)}")
    for blob in layer.inputs:
        _require_valid(blob.shape, blob.name)
    shapes = LAYER_CHECKS[layer.type](layer)
    for shape in shapes:
        _require_valid(shape, layer.name)
    return shapes


def _require_valid(shape: Shape, name: str) -> None:
    require(1 <= len(shape) <= MAX_RANK, f"'{name}' has {len(shape)} axes, ncnn has at most {MAX_RANK}")
    require(all(size is None or size >= 1 for size in shape), f"'{name}' is empty: {shape_text(shape)}")
    require(
        (element_count(shape) or 1) <= MAX_ELEMENTS,
        f"'{name}' has {element_count(shape)} elements, ncnn's limit is 2^31 - 1",
    )


def layer_check(*types: str) -> Callable[[LayerCheck], LayerCheck]:
    """Register the check of these layer types."""

    def register(function: LayerCheck) -> LayerCheck:
        for type_ in types:
            assert type_ in PARAMS and type_ not in LAYER_CHECKS, type_
            LAYER_CHECKS[type_] = function
        return function

    return register


def input_shapes(layer: Layer, count: int) -> list[Shape]:
    """The shapes of the layer's `count` inputs. Raises Refused for another number of inputs."""
    require(len(layer.inputs) == count, f"{layer.type} takes {count} inputs, not {len(layer.inputs)}")
    return [blob.shape for blob in layer.inputs]


def require_weights(layer: Layer, *counts: int) -> None:
    """Raise Refused unless the weights have these numbers of elements, in order."""
    actual = [weight.values.size for weight in layer.weights]
    require(actual == list(counts), f"{layer.type} reads weights of {list(counts)} elements, not {actual}")


def axis_param(layer: Layer, name: str, rank: int) -> int:
    """An axis parameter. Raises Refused unless 0 <= axis < rank."""
    axis = layer.int_param(name, 0)
    require(0 <= axis < rank, f"{layer.type} has axis {axis}, its input {rank} axes")
    return axis


@layer_check(
    "AbsVal", "Clip", "CELU", "ELU", "Erf", "GELU", "HardSigmoid", "HardSwish", "Mish", "ReLU", "SELU", "Sigmoid",
    "Softplus", "Swish", "TanH", "Threshold", "UnaryOp",
)  # fmt: skip
def _unary(layer: Layer) -> list[Shape]:
    require_weights(layer)
    return input_shapes(layer, 1)


@layer_check("Input")
def _input(layer: Layer) -> list[Shape]:
    input_shapes(layer, 0)
    require_weights(layer)
    return [layer.outputs[0].shape]


@layer_check("MemoryData")
def _memory_data(layer: Layer) -> list[Shape]:
    input_shapes(layer, 0)
    sizes = [layer.params[name] for name in ("c", "d", "h", "w") if name in layer.params]
    require(len(sizes) > 0, "MemoryData without a size would hold one uninitialized number")
    shape = tuple(int(size) for size in sizes)  # type: ignore[arg-type]
    require_weights(layer, math.prod(shape))
    return [shape]


@layer_check("Split")
def _split(layer: Layer) -> list[Shape]:
    return input_shapes(layer, 1) * len(layer.outputs)


@layer_check("BinaryOp")
def _binary(layer: Layer) -> list[Shape]:
    if layer.int_param("with_scalar", 0):
        return input_shapes(layer, 1)
    a, b = input_shapes(layer, 2)
    # operands of different rank do not broadcast as in NumPy, and for some ncnn reads out of bounds
    require(len(a) == len(b), f"BinaryOp of {shape_text(a)} and {shape_text(b)}: the ranks differ")
    return [tuple(_broadcast(p, q, a, b) for p, q in zip(a, b, strict=True))]


def _broadcast(p: Dim, q: Dim, a: Shape, b: Shape) -> Dim:
    if p == 1 or q == 1:
        return q if p == 1 else p
    require(p == q or p is None or q is None, f"{shape_text(a)} and {shape_text(b)} do not broadcast")
    return q if p is None else p


@layer_check("Scale")
def _scale(layer: Layer) -> list[Shape]:
    shapes = input_shapes(layer, 1)
    size = layer.int_param("scale_data_size", 0)
    require(shapes[0][0] == size, f"Scale of {size} on {shape_text(shapes[0])}")
    require_weights(layer, *[size] * (1 + layer.int_param("bias_term", 0)))
    return shapes


@layer_check("BatchNorm")
def _batch_norm(layer: Layer) -> list[Shape]:
    shapes = input_shapes(layer, 1)
    channels = layer.int_param("channels", 0)
    require(shapes[0][0] == channels, f"BatchNorm of {channels} channels on {shape_text(shapes[0])}")
    require_weights(layer, *[channels] * 4)
    return shapes


@layer_check("PReLU")
def _prelu(layer: Layer) -> list[Shape]:
    shapes = input_shapes(layer, 1)
    count = layer.int_param("num_slope", 0)
    require(count == 1 or shapes[0][0] == count, f"PReLU of {count} slopes on {shape_text(shapes[0])}")
    require(len(shapes[0]) < MAX_RANK, "PReLU takes up to 3 axes")
    require_weights(layer, count)
    return shapes


@layer_check("LayerNorm")
def _layer_norm(layer: Layer) -> list[Shape]:
    shapes = input_shapes(layer, 1)
    size, last = layer.int_param("affine_size", 0), shapes[0][-1]
    rows = len(shapes[0]) == 2 and last == size
    require(rows, f"LayerNorm of {size} on {shape_text(shapes[0])}, which is not rows of that size")
    require_weights(layer, *[size] * 2 * layer.int_param("affine", 1))
    return shapes


@layer_check("GroupNorm", "InstanceNorm")
def _group_norm(layer: Layer) -> list[Shape]:
    shapes = input_shapes(layer, 1)
    channels, affine = layer.int_param("channels", 0), layer.int_param("affine", 1)
    require(len(shapes[0]) == 3, f"{layer.type} takes 3 axes, not {shape_text(shapes[0])}")
    require(shapes[0][0] == channels, f"{layer.type} of {channels} channels on {shape_text(shapes[0])}")
    require(
        channels % layer.int_param("group", 1) == 0,
        f"{channels} channels do not form {layer.int_param('group', 1)} groups",
    )
    require_weights(layer, *[channels] * 2 * affine)
    return shapes


@layer_check("Softmax", "CumulativeSum")
def _along_axis(layer: Layer) -> list[Shape]:
    shapes = input_shapes(layer, 1)
    axis_param(layer, "axis", len(shapes[0]))
    if layer.type == "Softmax":
        require(layer.int_param("fixbug0", 0) == 1, "Softmax without fixbug0 numbers axes as old versions of ncnn did")
    return shapes


@layer_check("Reduction")
def _reduction(layer: Layer) -> list[Shape]:
    (shape,) = input_shapes(layer, 1)
    require(layer.int_param("fixbug0", 0) == 1, "ncnn refuses a Reduction without fixbug0")
    axes = layer.int_list_param("axes")
    in_range = all(0 <= axis < len(shape) for axis in axes)
    require(
        bool(axes) and in_range and len(set(axes)) == len(axes), f"Reduction over axes {axes} of {shape_text(shape)}"
    )
    if layer.int_param("keepdims", 0):
        return [tuple(1 if axis in axes else size for axis, size in enumerate(shape))]
    return [tuple(size for axis, size in enumerate(shape) if axis not in axes) or (1,)]


@layer_check("Concat")
def _concat(layer: Layer) -> list[Shape]:
    shapes = [blob.shape for blob in layer.inputs]
    require(len(shapes) > 0, "Concat of nothing")
    axis = axis_param(layer, "axis", len(shapes[0]))
    for shape in shapes:
        same = compatible((*shape[:axis], *shape[axis + 1 :]), (*shapes[0][:axis], *shapes[0][axis + 1 :]))
        require(same, f"Concat of {shape_text(shape)} to {shape_text(shapes[0])} along axis {axis}")
    joined = sum_of([shape[axis] for shape in shapes])
    return [(*shapes[0][:axis], joined, *shapes[0][axis + 1 :])]


def sum_of(sizes: list[Dim]) -> Dim:
    """The sum of sizes; None when one is unknown."""
    return None if any(size is None for size in sizes) else sum(size for size in sizes if size is not None)


@layer_check("Slice")
def _slice(layer: Layer) -> list[Shape]:
    (shape,) = input_shapes(layer, 1)
    axis, sizes = axis_param(layer, "axis", len(shape)), layer.int_list_param("slices")
    side = shape[axis]
    require(all(size > 0 for size in sizes), f"Slice into {sizes}: a part is empty")
    require(side is None or sum(sizes) == side, f"Slice of {side} into {sizes}")
    return [(*shape[:axis], size, *shape[axis + 1 :]) for size in sizes]


@layer_check("Crop")
def _crop(layer: Layer) -> list[Shape]:
    (shape,) = input_shapes(layer, 1)
    cropped: list[Dim] = list(shape)
    axes, starts, ends = (layer.int_list_param(name) for name in ("axes", "starts", "ends"))
    for axis, start, end in zip(axes, starts, ends, strict=True):
        require(0 <= axis < len(shape), f"Crop along axis {axis} of {shape_text(shape)}")
        side = shape[axis]
        if side is None and (start < 0 or end < 0 or end == TO_END):  # relative to an end known at run time only
            cropped[axis] = _span(start, end)
            continue
        require(0 <= start < end and (side is None or end <= side), f"Crop {start}:{end} of {shape_text(shape)}")
        cropped[axis] = end - start
    return [tuple(cropped)]


def _span(start: int, end: int) -> Dim:
    """The number of cells from start to end, negative positions relative to the side's end; None if it varies."""
    if end == TO_END:
        return -start if start < 0 else None
    return end - start if (start < 0) == (end < 0) else None


@layer_check("Padding")
def _padding(layer: Layer) -> list[Shape]:
    (shape,) = input_shapes(layer, 1)
    pads = {name: layer.int_param(name, 0) for name in ("top", "bottom", "left", "right", "front", "behind")}
    require(min(pads.values()) >= 0, f"Padding by {min(pads.values())}: ncnn cannot crop with it")
    padded = list(shape)
    pairs = [("left", "right"), ("top", "bottom"), ("front", "behind")][: min(len(shape), 3)]
    for back, (low, high) in enumerate(pairs, 1):  # axis -back
        size = shape[-back]
        if layer.int_param("type", 0) == 2:
            require(size is None or max(pads[low], pads[high]) < size, f"reflecting {pads} of {shape_text(shape)}")
        padded[-back] = None if size is None else size + pads[low] + pads[high]
    unused = [pads[name] for pair in [("top", "bottom"), ("front", "behind")][len(pairs) - 1 :] for name in pair]
    require(not any(unused), f"Padding {pads} of {shape_text(shape)}")
    return [tuple(padded)]


@layer_check("Permute")
def _permute(layer: Layer) -> list[Shape]:
    (shape,) = input_shapes(layer, 1)
    orders = list(permutations(range(len(shape))))
    order = layer.int_param("order_type", 0)
    require(len(shape) >= 2 and 0 <= order < len(orders), f"Permute {order} of {shape_text(shape)}")
    return [tuple(shape[axis] for axis in orders[order])]


@layer_check("Reshape")
def _reshape(layer: Layer) -> list[Shape]:
    if "shape_expr" in layer.params:
        return [_shape_of_expression(str(layer.params["shape_expr"]))]
    (shape,) = input_shapes(layer, 1)
    target = tuple(layer.int_param(name, 0) for name in ("c", "d", "h", "w") if name in layer.params)
    if target.count(INFERRED) == 1:
        return [tuple(None if size == INFERRED else size for size in target)]
    require(min(target) >= 1, f"Reshape to {target}")
    count = element_count(shape)
    equal = count is None or element_count(target) == count
    require(equal, f"Reshape of {shape_text(shape)} to {shape_text(target)}")
    return [target]


def _shape_of_expression(expression: str) -> Shape:
    """The shape of a shape_expr, which lists sizes innermost first; None for each size that is no plain number."""
    parts, depth = [""], 0
    for character in expression:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return tuple(int(part) if part.isdecimal() else None for part in reversed(parts))


@layer_check("Tile")
def _tile(layer: Layer) -> list[Shape]:
    (shape,) = input_shapes(layer, 1)
    repeats = layer.int_list_param("repeats")
    require(len(repeats) == len(shape) and min(repeats) >= 1, f"Tile of {shape_text(shape)} by {repeats}")
    return [tuple(None if size is None else size * times for size, times in zip(shape, repeats, strict=True))]


@layer_check("Flip")
def _flip(layer: Layer) -> list[Shape]:
    (shape,) = input_shapes(layer, 1)
    require(
        all(0 <= axis < len(shape) for axis in layer.int_list_param("axes")),
        f"Flip {layer.int_list_param('axes')} of {shape_text(shape)}",
    )
    return [shape]


@layer_check("MatMul")
def _matmul(layer: Layer) -> list[Shape]:
    a, b = input_shapes(layer, 2)
    require(len(a) == len(b) and len(a) >= 2, f"MatMul of {shape_text(a)} and {shape_text(b)}: the ranks differ")
    inner, columns = (b[-1], b[-2]) if layer.int_param("trans_b", 0) else (b[-2], b[-1])
    require(
        compatible((a[-1],), (inner,)),
        f"MatMul of {shape_text(a)} and {shape_text(b)}: {a[-1]} columns meet {inner} rows",
    )
    outer = tuple(_broadcast(p, q, a, b) for p, q in zip(a[:-2], b[:-2], strict=True))
    return [(*outer, a[-2], columns)]


@layer_check("Gemm")
def _gemm(layer: Layer) -> list[Shape]:
    (a,) = input_shapes(layer, 1)
    columns, inner = layer.int_param("constant_n", 0), layer.int_param("constant_k", 0)
    require(
        layer.int_param("constant_b", 0) == 1 and layer.int_param("trans_b", 0) == 1,
        "segc writes Gemm with a constant, transposed B only",
    )
    require(len(a) == 2 and compatible((a[1],), (inner,)), f"Gemm of {shape_text(a)}, which is not rows of {inner}")
    biased = layer.int_param("constant_broadcast_type_c", 0) == 4
    require_weights(layer, columns * inner, *([columns] if biased else []))
    return [(a[0], columns)]


@layer_check("InnerProduct")
def _inner_product(layer: Layer) -> list[Shape]:
    (x,) = input_shapes(layer, 1)
    units, inner = layer.int_param("num_output", 0), element_count(x)
    require(len(x) in (1, 3) and inner is not None, f"InnerProduct of {shape_text(x)}, which is not one row")
    count = layer.int_param("weight_data_size", 0)
    require(count == units * (inner or 0), f"InnerProduct has {count} weights, not {units} x {inner}")
    require_weights(layer, count, *[units] * layer.int_param("bias_term", 0))
    return [(units,)]


@layer_check("SDPA")
def _sdpa(layer: Layer) -> list[Shape]:
    q, k, v = input_shapes(layer, 3)
    operands = f"SDPA of {', '.join(map(shape_text, (q, k, v)))}"
    require(len(q) == len(k) == len(v) == 3, f"{operands}: it takes 3 axes each")
    shared = q[0] is not None and k[0] is not None and q[0] % k[0] == 0  # several heads may read the same keys
    require(shared and compatible(q[2:], k[2:]) and compatible(k[:2], v[:2]), operands)
    return [(q[0], q[1], v[2])]


@layer_check("DetectionOutput")
def _detection_output(layer: Layer) -> list[Shape]:
    location, confidence, boxes = input_shapes(layer, 3)
    count = known_sizes(boxes, "the list of boxes")[0]
    classes = known_sizes(confidence, "the table of scores")[0]
    fits = location == (4 * count,) and classes > 1 and confidence == (classes, count) and boxes == (count, 4)
    require(fits, f"DetectionOutput of {', '.join(map(shape_text, (location, confidence, boxes)))}")
    kept = layer.int_param("keep_top_k", 0)
    require(1 <= kept <= count and kept == layer.int_param("nms_top_k", 0), f"DetectionOutput keeps {kept} of {count}")
    return [(kept, 6)]


def map_axes(layer: Layer, shape: Shape) -> tuple[Dim, Dim, Dim]:
    """The axes (c, h, w) of a map. Raises Refused for another rank: of 4 axes ncnn would silently drop one."""
    if len(shape) != 3:
        raise Refused(f"{layer.type} takes 3 axes, not {shape_text(shape)}")
    return shape[0], shape[1], shape[2]
