"""Shape arithmetic: ONNX computes run-time sizes as tensors, ncnn as expressions in a layer's parameter.

A subgraph of Shape, Gather, Concat and integer arithmetic becomes no layers. A layer that needs its result gets an
expression over the sizes of blobs, and those blobs as further inputs:

    Resize(x, sizes = Concat(..., Shape(image)[2] // 8, ...))    ->  Interp(x, image), size_expr="//(1w,8),//(1h,8)"

`1w` is the width of input 1. ncnn's division rounds down, ONNX's towards zero: they agree because negative operands
are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from segc.passes.support.edit import optional
from segc.targets.ncnn.lower.attributes import constant_ints, int_attr
from segc.targets.ncnn.lower.layout import dims, layout_of
from segc.targets.ncnn.net.net import Refused, require
from segc.targets.ncnn.net.reshape_params import DIM_LETTERS

MAX_SIZES = 8  # a constant with more elements is data, not a list of sizes
MAX_EXTRA_INPUTS = 9  # an expression names an input by one digit, and input 0 is the layer's own


@dataclass(frozen=True, eq=False)
class RuntimeDim:
    """A size known at run time only: that of `tensor` along an ONNX axis."""

    tensor: gs.Tensor
    axis: int


@dataclass(frozen=True)
class SizeTerm:
    """An operation on sizes; op: ncnn's name of it."""

    op: str
    operands: tuple[Size, ...]


Size = int | RuntimeDim | SizeTerm
Reader = Callable[[gs.Node], list[Size]]  # the sizes that a node computes

ARITHMETIC: dict[str, tuple[str, Callable[[int, int], int]]] = {
    "Add": ("+", lambda a, b: a + b),
    "Sub": ("-", lambda a, b: a - b),
    "Mul": ("*", lambda a, b: a * b),
    "Div": ("//", lambda a, b: a // b),
    "Max": ("max", max),
    "Min": ("min", min),
}


def sizes_of(tensor: gs.Tensor) -> list[Size]:
    """The elements of an integer tensor that holds sizes, in order. Raises Refused for a tensor computed from data.

    It walks from the tensor to the Shape nodes and constants that it is computed from.
    """
    if isinstance(tensor, gs.Constant):
        return _constant_sizes(tensor)
    producer = tensor.inputs[0] if tensor.inputs else None
    integer = tensor.dtype is not None and np.dtype(tensor.dtype).kind in "iu"
    if producer is None or producer.domain is not None or not integer or len(tensor.shape or ()) > 1:
        raise Refused(f"'{tensor.name}' is computed from data")
    if (reader := READERS.get(producer.op)) is None:
        raise Refused(f"'{tensor.name}' is computed by {producer.op}")
    return reader(producer)


def computes_sizes(node: gs.Node) -> bool:
    """Whether all outputs of the node hold sizes, so that it becomes no layer."""
    try:
        for tensor in node.outputs:
            sizes_of(tensor)
    except Refused:
        return False
    return bool(node.outputs)


def _constant_sizes(tensor: gs.Constant) -> list[Size]:
    integer = np.dtype(tensor.dtype).kind in "iu"
    require(integer and tensor.values.size <= MAX_SIZES, f"'{tensor.name}' holds no sizes")
    return [int(value) for value in tensor.values.reshape(-1)]


def _shape(node: gs.Node) -> list[Size]:
    x = node.inputs[0]
    if x.shape is None:
        raise Refused(f"the rank of '{x.name}' is unknown")
    sizes: list[Size] = [RuntimeDim(x, axis) if size is None else size for axis, size in enumerate(dims(x.shape))]
    return sizes[node.attrs.get("start", 0) : node.attrs.get("end", len(sizes))]


def _unchanged(node: gs.Node) -> list[Size]:
    return sizes_of(node.inputs[0])


def _concat(node: gs.Node) -> list[Size]:
    return [size for tensor in node.inputs for size in sizes_of(tensor)]


def _gather(node: gs.Node) -> list[Size]:
    if int_attr(node, "axis", 0) != 0:
        raise Refused(f"'{node.outputs[0].name}' is computed by Gather along axis {node.attrs['axis']}")
    sizes = sizes_of(node.inputs[0])
    return [sizes[index] for index in constant_ints(node, 1, "list of indices")]


def _slice(node: gs.Node) -> list[Size]:
    sizes = sizes_of(node.inputs[0])
    start, end = constant_ints(node, 1, "start")[0], constant_ints(node, 2, "end")[0]
    step = constant_ints(node, 4, "step")[0] if optional(node, 4) is not None else 1
    return sizes[start:end:step]


def _arithmetic(node: gs.Node) -> list[Size]:
    if len(node.inputs) != 2:
        raise Refused(f"'{node.outputs[0].name}' is computed by {node.op} of {len(node.inputs)} inputs")
    left, right = (sizes_of(tensor) for tensor in node.inputs)
    count = max(len(left), len(right))
    op, compute = ARITHMETIC[node.op]
    pairs = zip(_broadcast(left, count), _broadcast(right, count), strict=True)
    return [_apply(op, compute, a, b) for a, b in pairs]


READERS: dict[str, Reader] = {
    "Shape": _shape,
    "Concat": _concat,
    "Gather": _gather,
    "Slice": _slice,
    **dict.fromkeys(("Squeeze", "Unsqueeze", "Reshape", "Identity", "Cast"), _unchanged),
    **dict.fromkeys(ARITHMETIC, _arithmetic),
}


def _broadcast(sizes: list[Size], count: int) -> list[Size]:
    require(len(sizes) in (1, count), f"lists of {len(sizes)} and {count} sizes do not broadcast")
    return sizes * count if len(sizes) == 1 else sizes


def _apply(op: str, compute: Callable[[int, int], int], a: Size, b: Size) -> Size:
    """op(a, b): a number where both are known, otherwise a term."""
    if isinstance(a, int) and isinstance(b, int):
        require(op != "//" or b > 0, "a size is divided by 0 or less")
        return compute(a, b)
    if op == "//":
        require(isinstance(b, int) and b > 0, "a size is divided by a number that is not a positive constant")
    if op == "+" and isinstance(b, int) and b < 0:
        return SizeTerm("-", (a, -b))  # ncnn's expressions hold no negative numbers
    if op == "+" and isinstance(a, int) and a < 0:
        return SizeTerm("-", (b, -a))
    require(not any(isinstance(v, int) and v < 0 for v in (a, b)), "a size is computed with a negative number")
    return SizeTerm(op, (a, b))


class SizeInputs:
    """The inputs of a layer whose sizes its expression reads. tensors: the layer's own input first."""

    def __init__(self, first: gs.Tensor) -> None:
        self.tensors: list[gs.Tensor] = [first]

    def expression(self, sizes: Sequence[Size]) -> str:
        """The text of an expression parameter, innermost size first. Raises Refused: too many tensors."""
        return ",".join(self._text(size) for size in sizes)

    def _text(self, size: Size) -> str:
        if isinstance(size, int):
            return str(size)
        if isinstance(size, SizeTerm):
            return f"{size.op}({','.join(self._text(operand) for operand in size.operands)})"
        layout = layout_of(size.tensor)
        letter = DIM_LETTERS[len(layout.shape)][layout.position(size.axis)]
        return f"{self._input_index(size.tensor)}{letter}"

    def _input_index(self, tensor: gs.Tensor) -> int:
        for index, known in enumerate(self.tensors):
            if known is tensor:
                return index
        require(len(self.tensors) <= MAX_EXTRA_INPUTS, f"it depends on sizes of more than {MAX_EXTRA_INPUTS} tensors")
        self.tensors.append(tensor)
        return len(self.tensors) - 1
