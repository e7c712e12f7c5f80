"""Specialize the graph to fixed sizes of the image input: bind them and fold the shape arithmetic.

With N, H and W known, Shape(x) is a constant, and so is every chain of Gather, Slice, Concat, Div, Range, ... that
starts there. Each folded chain makes more shapes known, so shape inference and folding alternate until nothing changes.
A partial binding folds what it determines: Gather(Shape(x), 2) is known if the height is, whatever the batch.

Must not fire: a size that differs from a static one (the weights may depend on it); a size that does not fit the
weights (a position embedding of another length); values that depend on data, not on shapes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph import ir
from segc.graph.invariants import PORTABLE, REVEALED
from segc.passes.base import Pass, PassResult
from segc.passes.support import evaluate
from segc.passes.support.edit import SMALL, forward, ints, optional, protected, small_constant
from segc.passes.support.op_sets import SHAPE_ARITHMETIC

Partial = np.ndarray  # of dtype object: ints, and None for unknown values


@dataclass(frozen=True)
class SpecializeShapes(Pass):
    """Fix batch, height and width of the image input (None keeps a size as it is) and fold the shape arithmetic.

    Raises ValueError, which names both sizes, if a size is not positive or disagrees with a static one or with the
    weights, and if the graph has no image input.
    Cost: one shape inference without weights per round; usually two or three rounds.
    """

    name: ClassVar[str] = "specialize-shapes"
    algebra: ClassVar[str] = "Shape(x), x: N x C x H x W  ->  constant [N, C, H, W], and all that follows from it"
    requires: ClassVar[frozenset[str]] = Pass.requires | {PORTABLE, "planar input"}
    invalidates: ClassVar[frozenset[str]] = REVEALED | {
        "constants folded", "identities removed", "pads merged", "convolutions hoisted"
    }  # fmt: skip

    batch: int | None = None
    height: int | None = None
    width: int | None = None

    def __post_init__(self) -> None:
        """Refuse sizes below 1; promise what the sizes that are bound decide, and no more."""
        for what, size in self.sizes.values():
            if size is not None and size < 1:
                raise ValueError(f"{what} must be at least 1, not {size}")
        if all(size is not None for _, size in self.sizes.values()):
            object.__setattr__(self, "ensures", frozenset({"static shapes"}))
        if self.height is None and self.width is None:  # the batch alone reveals nothing to what reads maps
            object.__setattr__(self, "invalidates", frozenset({"constants folded"}))

    @property
    def sizes(self) -> dict[int, tuple[str, int | None]]:
        """The name and the requested size of each axis."""
        return {0: ("batch", self.batch), 2: ("height", self.height), 3: ("width", self.width)}

    def run(self, graph: gs.Graph) -> PassResult:
        """Bind the sizes, then alternate inference and folding."""
        result = PassResult(bind(graph, self.sizes))
        skipped: dict[str, str] = {}
        protected_ids = protected(graph)
        while found := ir.infer_shapes(graph) + fold_shapes(graph, protected_ids, skipped):
            result.changes += found
        bound = ", ".join(f"{what} {size}" for what, size in self.sizes.values() if size is not None)
        if bound and (why := misfit(graph)):
            raise ValueError(f"{bound} does not fit the graph: {why}")
        for node in graph.nodes:
            if node.name in skipped and node.outputs:
                result.skip(node, skipped[node.name])
            elif "static shapes" in self.ensures and _open_by_itself(node):
                result.skip(node, "the size of its result depends on data, or ONNX does not infer it")
        return result


def _open_by_itself(node: gs.Node) -> bool:
    """Whether the sizes of all inputs are numbers, and one of an output is not."""
    given = all(t.is_empty() or ir.static_shape(t) is not None for t in node.inputs)
    return given and any(not t.is_empty() and ir.static_shape(t) is None for t in node.outputs)


BROADCASTS = frozenset(
    {"Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Equal", "Less", "Greater", "Where", "Mean", "Sum"}
)


def misfit(graph: gs.Graph) -> str | None:
    """The first node whose input sizes conflict or whose output would have a negative size; None if there is none."""
    for node in graph.nodes:
        if node.domain:
            continue
        operands = [t for t in node.inputs if not t.is_empty()]
        shapes = [list(t.shape) for t in operands if t.shape is not None]
        if len(shapes) == len(operands) and (why := _size_conflict(node, shapes)):
            names = ", ".join(f"'{t.name}' {list(t.shape)}" for t in operands)
            return f"{node.op} '{node.name}' reads {names}; {why}"
        for tensor in node.outputs:
            if tensor.shape is not None and any(isinstance(s, (int, np.integer)) and s < 0 for s in tensor.shape):
                return f"{node.op} '{node.name}' would make '{tensor.name}' of shape {list(tensor.shape)}"
    return None


def _size_conflict(node: gs.Node, shapes: list[list[Any]]) -> str | None:
    """The sizes of the inputs that should be equal and are not, in words."""
    if node.op in BROADCASTS:
        return _unequal_sizes([shape[::-1] for shape in shapes], "from the right", stretch=True)
    if node.op == "Concat" and len({len(shape) for shape in shapes}) == 1:
        axis = node.attrs["axis"] % max(len(shapes[0]), 1)
        return _unequal_sizes(
            [[1 if i == axis else s for i, s in enumerate(shape)] for shape in shapes], "", stretch=False
        )
    if node.op == "MatMul" and all(len(shape) > 1 for shape in shapes):
        return _unequal_sizes([[shapes[0][-1]], [shapes[1][-2]]], "of the sum", stretch=False)
    return None


def _unequal_sizes(shapes: list[list[Any]], where: str, *, stretch: bool) -> str | None:
    for axis in range(max(map(len, shapes), default=0)):
        sizes = {int(s[axis]) for s in shapes if axis < len(s) and isinstance(s[axis], (int, np.integer))}
        sizes -= {1} if stretch else set()
        if len(sizes) > 1:
            return f"{f'axis {axis} {where}'.strip()} is {' and '.join(map(str, sorted(sizes)))}"
    return None


def image_input(graph: gs.Graph) -> gs.Variable:
    """The first input with four dimensions. Raises ValueError if there is none."""
    for tensor in graph.inputs:
        if tensor.shape is not None and len(tensor.shape) == 4:
            return tensor
    known = ", ".join(f"{t.name}{list(t.shape) if t.shape is not None else ''}" for t in graph.inputs) or "none"
    raise ValueError(f"no input with 4 dimensions (N, C, H, W); inputs: {known}")


def bind(graph: gs.Graph, sizes: dict[int, tuple[str, int | None]]) -> int:
    """Write the requested sizes into the image input and wherever its symbols occur. Returns how many were bound."""
    requested = {axis: (what, size) for axis, (what, size) in sizes.items() if size is not None}
    if not requested:
        return 0
    tensor = image_input(graph)
    shape, bound = list(tensor.shape), 0
    symbols: dict[str, tuple[str, int]] = {}
    for axis, (what, size) in requested.items():
        current = shape[axis]
        if isinstance(current, (int, np.integer)):
            if int(current) != size:
                raise ValueError(
                    f"{what} {size} disagrees with input '{tensor.name}', whose {what} is fixed at {current}"
                )
            continue
        if current in symbols and symbols[current][1] != size:
            other, value = symbols[current]
            raise ValueError(
                f"{what} {size} disagrees with {other} {value}: both are '{current}' in input '{tensor.name}'"
            )
        if current:
            symbols[current] = (what, size)
        shape[axis], bound = size, bound + 1
    if bound:
        tensor.shape = shape
        _substitute(graph, {symbol: size for symbol, (_, size) in symbols.items()})
    return bound


def _substitute(graph: gs.Graph, values: dict[str, int]) -> None:
    for tensor in graph.tensors().values():
        if isinstance(tensor, gs.Variable) and tensor.shape is not None:
            tensor.shape = [values.get(s, s) if isinstance(s, str) else s for s in tensor.shape]


def fold_shapes(graph: gs.Graph, protected_ids: set[int], skipped: dict[str, str]) -> int:
    """Replace nodes that shapes determine by constants, in one walk over the sorted graph. Returns how many folded."""
    known: dict[int, Partial] = {}
    folded = 0
    for node in list(graph.nodes):
        if node.domain or not node.outputs or any(True for _ in node.subgraphs()):
            continue
        values = _values(node, graph.opset, known)
        if values is None:
            continue
        if any(id(t) in protected_ids for t in node.outputs):
            skipped[node.name] = f"'{node.outputs[0].name}' is an output, and its value is a constant"
            continue
        for tensor, value in zip(list(node.outputs), values, strict=True):
            constant = gs.Constant(tensor.name, np.ascontiguousarray(value).reshape(np.shape(value)))
            forward(graph, tensor, constant, protected_ids)
        node.inputs.clear()
        node.outputs.clear()
        folded += 1
    if folded:
        graph.nodes = [n for n in graph.nodes if n.outputs]
    return folded


def _values(node: gs.Node, opset: int, known: dict[int, Partial]) -> list[np.ndarray] | None:
    """The values of a node's outputs if shapes determine them. Partly known values go to `known` for later nodes."""
    partial = PARTIAL[node.op](node, known) if node.op in PARTIAL else None
    if partial is not None:
        if all(v is not None for v in partial.flat):
            return [partial.astype(np.int64)] if _is_int64(node) else None
        known[id(node.outputs[0])] = partial
        return None
    if node.op not in SHAPE_ARITHMETIC or not node.inputs:
        return None
    operands = [t for t in node.inputs if not t.is_empty()]
    if not operands or any(small_constant(t) is None for t in operands) or not _small(node):
        return None
    values = evaluate.by_reference(node, opset)
    return values if all(v.size <= SMALL for v in values) else None


def _is_int64(node: gs.Node) -> bool:
    dtype = node.outputs[0].dtype
    return dtype is None or np.dtype(dtype) == np.int64


def _small(node: gs.Node) -> bool:
    """Whether the outputs are small enough to fold; Range or Expand of unknown size are not."""
    shapes = [ir.static_shape(t) for t in node.outputs]
    if all(s is not None for s in shapes):
        return all(int(np.prod(s)) <= SMALL for s in shapes if s is not None)
    return node.op not in ("Range", "ConstantOfShape", "Expand", "Tile")


def _partial(tensor: gs.Tensor | None, known: dict[int, Partial]) -> Partial | None:
    """The known elements of an int64 scalar or vector; None if nothing is known."""
    if tensor is None:
        return None
    if id(tensor) in known:
        return known[id(tensor)]
    value = small_constant(tensor)
    if value is None or value.dtype != np.int64 or value.ndim > 1:
        return None
    return value.astype(object)


def _shape(node: gs.Node, _: dict[int, Partial]) -> Partial | None:
    shape = node.inputs[0].shape
    if shape is None:
        return None
    sizes = list(shape)[slice(node.attrs.get("start"), node.attrs.get("end"))]
    return np.array([int(s) if isinstance(s, (int, np.integer)) else None for s in sizes], object)


def _size(node: gs.Node, _: dict[int, Partial]) -> Partial | None:
    shape = ir.static_shape(node.inputs[0])
    return None if shape is None else np.array(int(np.prod(shape)), object)


def _gather(node: gs.Node, known: dict[int, Partial]) -> Partial | None:
    data, indices = _partial(node.inputs[0], known), small_constant(node.inputs[1])
    if data is None or indices is None or data.ndim != 1 or indices.ndim > 1:
        return None
    return np.array(data[indices.astype(int)], object)


def _slice(node: gs.Node, known: dict[int, Partial]) -> Partial | None:
    data = _partial(node.inputs[0], known)
    start, end = (ints(optional(node, index)) for index in (1, 2))
    step = ints(optional(node, 4)) if optional(node, 4) is not None else [1]
    if data is None or data.ndim != 1 or not start or not end or not step or step[0] < 1:
        return None
    return data[max(start[0], -len(data)) : end[0] : step[0]] if len(start) == 1 else None


def _concat(node: gs.Node, known: dict[int, Partial]) -> Partial | None:
    parts = [_partial(t, known) for t in node.inputs]
    if all(p is None for p in parts):
        return None
    filled: list[Partial] = []
    for part, tensor in zip(parts, node.inputs, strict=True):
        shape = ir.static_shape(tensor)
        if part is None and (shape is None or len(shape) != 1 or tensor.dtype is None or tensor.dtype != np.int64):
            return None
        filled.append(part if part is not None else np.full(shape or (), None, object))
    return np.concatenate(filled) if all(p.ndim == 1 for p in filled) else None


def _scalar_or_vector(node: gs.Node, known: dict[int, Partial]) -> Partial | None:
    """Squeeze and Unsqueeze between a scalar and a vector of one element."""
    data = _partial(node.inputs[0], known)
    if data is None or data.size != 1:
        return None
    if node.op == "Unsqueeze":
        return data.reshape(1) if data.ndim == 0 else None
    return data.reshape(())


def _unchanged(node: gs.Node, known: dict[int, Partial]) -> Partial | None:
    to = node.attrs.get("to", 7)
    return _partial(node.inputs[0], known) if to in (7, np.int64, np.dtype(np.int64)) else None


def _elementwise(apply: Callable[[int, int], int | None]) -> Callable[[gs.Node, dict[int, Partial]], Partial | None]:
    def compute(node: gs.Node, known: dict[int, Partial]) -> Partial | None:
        a, b = (_partial(t, known) for t in node.inputs)
        if a is None or b is None:
            return None

        def one(x: Any, y: Any) -> int | None:
            return None if x is None or y is None else apply(int(x), int(y))

        return np.asarray(np.frompyfunc(one, 2, 1)(a, b), object)

    return compute


def _divide(x: int, y: int) -> int | None:
    return x // y if x >= 0 and y > 0 else None


PARTIAL: dict[str, Callable[[gs.Node, dict[int, Partial]], Partial | None]] = {
    "Shape": _shape,
    "Size": _size,
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
    "Squeeze": _scalar_or_vector,
    "Unsqueeze": _scalar_or_vector,
    "Cast": _unchanged,
    "Identity": _unchanged,
    "Add": _elementwise(lambda x, y: x + y),
    "Sub": _elementwise(lambda x, y: x - y),
    "Mul": _elementwise(lambda x, y: x * y),
    "Div": _elementwise(_divide),
}
