"""Sizes known at run time only: ONNX computes them as tensors, ncnn as expressions in a layer's parameter.

An ONNX subgraph of Shape, Gather, Concat and integer arithmetic gives no layers. Where a layer wants its result, the
subgraph becomes an expression over sizes of blobs, which the layer gets as further inputs:

    Resize(x, sizes = Concat(..., Shape(image)[2] // 8, ...))    ->  Interp x image, 9="//(1w,8),//(1h,8)"

A division rounds down; ONNX rounds towards zero. Sizes are not negative, so both agree on what is left refused here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from segc.passes.support.edit import optional
from segc.targets.ncnn.lower.attributes import constant_ints, whole
from segc.targets.ncnn.lower.layout import dims, layout_of
from segc.targets.ncnn.net.net import Refused, require

LETTERS = {1: "w", 2: "hw", 3: "chw", 4: "cdhw"}


@dataclass(frozen=True, eq=False)
class Leaf:
    """The size of a tensor along an ONNX axis."""

    tensor: gs.Tensor
    axis: int


@dataclass(frozen=True)
class Term:
    """An operation on sizes."""

    op: str
    operands: tuple[Size, ...]


Size = int | Leaf | Term
ARITHMETIC: dict[str, tuple[str, Callable[[int, int], int]]] = {
    "Add": ("+", lambda a, b: a + b),
    "Sub": ("-", lambda a, b: a - b),
    "Mul": ("*", lambda a, b: a * b),
    "Div": ("//", lambda a, b: a // b),
    "Max": ("max", max),
    "Min": ("min", min),
}
KEEPING = ("Squeeze", "Unsqueeze", "Reshape", "Identity", "Cast")


def sizes_of(tensor: gs.Tensor) -> list[Size]:
    """The elements of an integer tensor of sizes, in order. Raises Refused when it is something else."""
    if isinstance(tensor, gs.Constant):
        require(np.dtype(tensor.dtype).kind in "iu" and tensor.values.size <= 8, f"'{tensor.name}' holds no sizes")
        return [int(value) for value in tensor.values.reshape(-1)]
    maker = tensor.inputs[0] if tensor.inputs else None
    integer = tensor.dtype is not None and np.dtype(tensor.dtype).kind in "iu"
    if maker is None or maker.domain is not None or not integer or len(tensor.shape or ()) > 1:
        raise Refused(f"'{tensor.name}' is computed from data")
    if maker.op == "Shape":
        return _shape(maker)
    if maker.op in KEEPING:
        return sizes_of(maker.inputs[0])
    if maker.op == "Concat":
        return [size for part in maker.inputs for size in sizes_of(part)]
    if maker.op == "Gather" and whole(maker, "axis", 0) == 0:
        given = sizes_of(maker.inputs[0])
        return [given[at] for at in constant_ints(maker, 1, "list of indices")]
    if maker.op == "Slice":
        return _slice(maker)
    if maker.op in ARITHMETIC and len(maker.inputs) == 2:
        return _arithmetic(maker)
    raise Refused(f"'{tensor.name}' is computed by {maker.op}")


def is_size(node: gs.Node) -> bool:
    """Whether all that the node makes are sizes, so that it gives no layer."""
    try:
        return bool(node.outputs) and all(sizes_of(tensor) is not None for tensor in node.outputs)
    except Refused:
        return False


def _shape(maker: gs.Node) -> list[Size]:
    x = maker.inputs[0]
    if x.shape is None:
        raise Refused(f"the rank of '{x.name}' is unknown")
    found: list[Size] = [Leaf(x, axis) if size is None else size for axis, size in enumerate(dims(x.shape))]
    return found[maker.attrs.get("start", 0) : maker.attrs.get("end", len(found))]


def _slice(maker: gs.Node) -> list[Size]:
    given = sizes_of(maker.inputs[0])
    start, end = constant_ints(maker, 1, "start")[0], constant_ints(maker, 2, "end")[0]
    step = constant_ints(maker, 4, "step")[0] if optional(maker, 4) is not None else 1
    return given[start:end:step]


def _arithmetic(maker: gs.Node) -> list[Size]:
    left, right = (sizes_of(tensor) for tensor in maker.inputs)
    count = max(len(left), len(right))
    op, compute = ARITHMETIC[maker.op]
    pairs = zip(_spread(left, count), _spread(right, count), strict=True)
    return [_term(op, compute, a, b) for a, b in pairs]


def _spread(sizes: list[Size], count: int) -> list[Size]:
    require(len(sizes) in (1, count), "sizes of different numbers meet")
    return sizes * count if len(sizes) == 1 else sizes


def _term(op: str, compute: Callable[[int, int], int], a: Size, b: Size) -> Size:
    if isinstance(a, int) and isinstance(b, int):
        require(op != "//" or b > 0, "a size is divided by 0 or less")
        return compute(a, b)
    if op == "//":
        require(isinstance(b, int) and b > 0, "a size is divided by what is known at run time only")
    if op == "+" and isinstance(b, int) and b < 0:
        return Term("-", (a, -b))  # expressions hold no negative numbers
    if op == "+" and isinstance(a, int) and a < 0:
        return Term("-", (b, -a))
    require(not any(isinstance(v, int) and v < 0 for v in (a, b)), "a size is computed with a negative number")
    return Term(op, (a, b))


class References:
    """The tensors whose sizes an expression reads, as inputs of a layer after its first."""

    def __init__(self, first: gs.Tensor) -> None:
        self.tensors: list[gs.Tensor] = [first]

    def text(self, sizes: Sequence[Size]) -> str:
        """An expression parameter, innermost size first."""
        return ",".join(self._text(size) for size in sizes)

    def _text(self, size: Size) -> str:
        if isinstance(size, int):
            return str(size)
        if isinstance(size, Term):
            return f"{size.op}({','.join(self._text(part) for part in size.operands)})"
        layout = layout_of(size.tensor)
        letter = LETTERS[len(layout.shape)][layout.place(size.axis)]
        return f"{self._number(size.tensor)}{letter}"

    def _number(self, tensor: gs.Tensor) -> int:
        for at, known in enumerate(self.tensors):
            if known is tensor:
                return at
        require(len(self.tensors) < 10, "it depends on sizes of more than 9 tensors")
        self.tensors.append(tensor)
        return len(self.tensors) - 1
