"""Bind the sizes of the image input and compute what follows from them.

With N, H and W known, Shape(x) is a constant, and so is every chain of Gather, Slice, Concat, Div, Range, ... that
starts there; each folded chain makes more shapes known, so inference and folding take turns until nothing changes.
A partial binding folds what it decides: Gather(Shape(x), 2) is known when the height is, whatever the batch.

Must not fire: a size that is static already and disagrees (the weights may depend on it), a size that does not fit
the weights (a position embedding of another length), and values that depend on data rather than on shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from segc.graph import ir, source_info
from segc.passes.base import Pass, PassResult
from segc.passes.support import evaluate
from segc.passes.support.edit import SMALL, forward, ints, optional, protected, small_constant

# Shape arithmetic: cheap, deterministic, and evaluated by ONNX's reference on small constants.
COMPUTE = {"Abs", "Add", "And", "Ceil", "Div", "Equal", "Floor", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"}
COMPUTE |= {"Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum", "Sqrt"}
COMPUTE |= {"Sub", "Where"}
ARRANGE = {"Cast", "Concat", "ConstantOfShape", "Expand", "Gather", "Identity", "Range", "Reshape", "Slice", "Split"}
ARRANGE |= {"Squeeze", "Tile", "Transpose", "Unsqueeze"}
ARITHMETIC = frozenset(COMPUTE | ARRANGE)

Partial = np.ndarray  # of dtype object: ints, and None for what is not known


@dataclass(frozen=True)
class SpecializeShapes(Pass):
    """Fix batch, height and width of the image input (None leaves one as it is) and fold the shape arithmetic.

    Raises ValueError when a size is not positive, disagrees with a static one or with the weights, or when the graph
    has no image input; it says which size disagrees with what.
    Cost: a shape inference without weights per round, two or three rounds as a rule.
    """

    name: ClassVar[str] = "specialize-shapes"
    algebra: ClassVar[str] = "Shape(x), x: N x C x H x W  ->  constant [N, C, H, W], and all that follows from it"

    batch: int | None = None
    height: int | None = None
    width: int | None = None

    def __post_init__(self) -> None:
        """Refuse sizes below 1; promise static shapes only when all three are bound."""
        for what, size in self.sizes.values():
            if size is not None and size < 1:
                raise ValueError(f"{what} must be at least 1, not {size}")
        if all(size is not None for _, size in self.sizes.values()):
            object.__setattr__(self, "gives", frozenset({"static-shapes"}))

    @property
    def sizes(self) -> dict[int, tuple[str, int | None]]:
        """Axis -> what it is called, and its wanted size."""
        return {0: ("batch", self.batch), 2: ("height", self.height), 3: ("width", self.width)}

    def run(self, graph: gs.Graph) -> PassResult:
        """Bind, then infer and fold in turns."""
        result = PassResult(bind(graph, self.sizes))
        skipped: dict[str, str] = {}
        keep = protected(graph)
        while found := ir.infer_shapes(graph) + fold_shapes(graph, keep, skipped):
            result.changes += found
        bound = ", ".join(f"{what} {size}" for what, size in self.sizes.values() if size is not None)
        if bound and (why := misfit(graph)):
            raise ValueError(f"{bound} does not fit the graph: {why}")
        for node in graph.nodes:
            if node.name in skipped and node.outputs:
                result.skip(node, skipped[node.name])
        return result


Bucket = tuple[int | None, int | None, int | None]


def specialize(source: gs.Graph | onnx.ModelProto, buckets: Sequence[Bucket]) -> list[gs.Graph]:
    """One graph for each bucket (N, H, W), specialized to it; None keeps a size as it is.

    The source stays as it was, and the graphs share its weights: every bucket adds nodes and shapes only. A model may
    not be modified afterwards. Raises ValueError that names the bucket and what its size disagrees with.
    Cost: one SpecializeShapes for each bucket.
    """
    if isinstance(source, onnx.ModelProto):
        source = ir.from_model(source)
        ir.infer_shapes(source)
    made = []
    for bucket in buckets:
        graph = shared_copy(source)
        try:
            SpecializeShapes(*bucket).run(graph)
        except ValueError as error:
            wanted = " x ".join("any" if size is None else str(size) for size in bucket)
            raise ValueError(f"bucket {wanted}: {error}") from error
        graph.cleanup(remove_unused_graph_inputs=False).toposort()
        made.append(graph)
    return made


def shared_copy(graph: gs.Graph) -> gs.Graph:
    """A graph of its own nodes and tensors, over the same arrays."""
    for tensor in graph.tensors().values():
        if isinstance(tensor, gs.Constant):
            tensor.values = evaluate.array(tensor)  # read once, so that the copies do not each read their own
    copy = graph.copy()
    for node, former in zip(copy.nodes, graph.nodes, strict=True):
        source_info.put(node, source_info.of(former))
    return copy


BROADCASTS = frozenset(
    {"Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Equal", "Less", "Greater", "Where", "Mean", "Sum"}
)


def misfit(graph: gs.Graph) -> str | None:
    """The first node whose inputs cannot go together, or whose output is empty, as far as sizes are known."""
    for node in graph.nodes:
        if node.domain:
            continue
        given = [t for t in node.inputs if not t.is_empty()]
        shapes = [list(t.shape) for t in given if t.shape is not None]
        if len(shapes) == len(given) and (why := _quarrel(node, shapes)):
            names = ", ".join(f"'{t.name}' {list(t.shape)}" for t in given)
            return f"{node.op} '{node.name}' gets {names}; {why}"
        for tensor in node.outputs:
            if tensor.shape is not None and any(isinstance(s, (int, np.integer)) and s < 0 for s in tensor.shape):
                return f"{node.op} '{node.name}' would give '{tensor.name}' the shape {list(tensor.shape)}"
    return None


def _quarrel(node: gs.Node, shapes: list[list[Any]]) -> str | None:
    """Which sizes of the inputs should be equal and are not."""
    if node.op in BROADCASTS:
        return _unequal([shape[::-1] for shape in shapes], "from the right", stretch=True)
    if node.op == "Concat" and len({len(shape) for shape in shapes}) == 1:
        axis = node.attrs["axis"] % max(len(shapes[0]), 1)
        return _unequal([[1 if at == axis else s for at, s in enumerate(shape)] for shape in shapes], "", stretch=False)
    if node.op == "MatMul" and all(len(shape) > 1 for shape in shapes):
        return _unequal([[shapes[0][-1]], [shapes[1][-2]]], "of the sum", stretch=False)
    return None


def _unequal(shapes: list[list[Any]], where: str, *, stretch: bool) -> str | None:
    for axis in range(max(map(len, shapes), default=0)):
        sizes = {int(s[axis]) for s in shapes if axis < len(s) and isinstance(s[axis], (int, np.integer))}
        sizes -= {1} if stretch else set()
        if len(sizes) > 1:
            return f"{f'axis {axis} {where}'.strip()} is {' and '.join(map(str, sorted(sizes)))}"
    return None


def image_input(graph: gs.Graph) -> gs.Variable:
    """The first input with four dimensions. Raises ValueError when there is none."""
    for tensor in graph.inputs:
        if tensor.shape is not None and len(tensor.shape) == 4:
            return tensor
    known = ", ".join(f"{t.name}{list(t.shape) if t.shape is not None else ''}" for t in graph.inputs) or "none"
    raise ValueError(f"no input with 4 dimensions (N, C, H, W); inputs: {known}")


def bind(graph: gs.Graph, sizes: dict[int, tuple[str, int | None]]) -> int:
    """Write the wanted sizes into the image input and wherever its symbols stand; returns the number of sizes bound."""
    wanted = {axis: (what, size) for axis, (what, size) in sizes.items() if size is not None}
    if not wanted:
        return 0
    tensor = image_input(graph)
    shape, bound = list(tensor.shape), 0
    symbols: dict[str, tuple[str, int]] = {}
    for axis, (what, size) in wanted.items():
        now = shape[axis]
        if isinstance(now, (int, np.integer)):
            if int(now) != size:
                raise ValueError(f"{what} {size} disagrees with input '{tensor.name}', whose {what} is fixed at {now}")
            continue
        if now in symbols and symbols[now][1] != size:
            other, value = symbols[now]
            raise ValueError(f"{what} {size} disagrees with {other} {value}: both are '{now}' in input '{tensor.name}'")
        if now:
            symbols[now] = (what, size)
        shape[axis], bound = size, bound + 1
    if bound:
        tensor.shape = shape
        _substitute(graph, {symbol: size for symbol, (_, size) in symbols.items()})
    return bound


def _substitute(graph: gs.Graph, values: dict[str, int]) -> None:
    for tensor in graph.tensors().values():
        if isinstance(tensor, gs.Variable) and tensor.shape is not None:
            tensor.shape = [values.get(s, s) if isinstance(s, str) else s for s in tensor.shape]


def fold_shapes(graph: gs.Graph, keep: set[int], skipped: dict[str, str]) -> int:
    """Replace what shapes decide by constants, in one walk over the sorted graph; returns how many nodes folded."""
    known: dict[int, Partial] = {}
    folded = 0
    for node in list(graph.nodes):
        if node.domain or not node.outputs or any(True for _ in node.subgraphs()):
            continue
        values = _values(node, graph.opset, known)
        if values is None:
            continue
        if any(id(t) in keep for t in node.outputs):
            skipped[node.name] = f"'{node.outputs[0].name}' is an output and its value a constant"
            continue
        for tensor, value in zip(list(node.outputs), values, strict=True):
            made = gs.Constant(tensor.name, np.ascontiguousarray(value).reshape(np.shape(value)))
            forward(graph, tensor, made, keep)
        node.inputs.clear()
        node.outputs.clear()
        folded += 1
    if folded:
        graph.nodes = [n for n in graph.nodes if n.outputs]
    return folded


def _values(node: gs.Node, opset: int, known: dict[int, Partial]) -> list[np.ndarray] | None:
    """Values of a node's outputs where shapes decide them. Half known values are kept in `known` for later nodes."""
    partial = PARTIAL[node.op](node, known) if node.op in PARTIAL else None
    if partial is not None:
        if all(v is not None for v in partial.flat):
            return [partial.astype(np.int64)] if _is_int64(node) else None
        known[id(node.outputs[0])] = partial
        return None
    if node.op not in ARITHMETIC or not node.inputs:
        return None
    given = [t for t in node.inputs if not t.is_empty()]
    if not given or any(small_constant(t) is None for t in given) or not _small(node):
        return None
    values = evaluate.by_reference(node, opset)
    return values if all(v.size <= SMALL for v in values) else None


def _is_int64(node: gs.Node) -> bool:
    dtype = node.outputs[0].dtype
    return dtype is None or np.dtype(dtype) == np.int64


def _small(node: gs.Node) -> bool:
    """Whether the outputs are known to be small, so that Range or Expand cannot surprise."""
    shapes = [ir.static_shape(t) for t in node.outputs]
    if all(s is not None for s in shapes):
        return all(int(np.prod(s)) <= SMALL for s in shapes if s is not None)
    return node.op not in ("Range", "ConstantOfShape", "Expand", "Tile")


def _partial(tensor: gs.Tensor | None, known: dict[int, Partial]) -> Partial | None:
    """What is known of an int64 scalar or vector; None when nothing is."""
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
    data, at = _partial(node.inputs[0], known), small_constant(node.inputs[1])
    if data is None or at is None or data.ndim != 1 or at.ndim > 1:
        return None
    return np.array(data[at.astype(int)], object)


def _slice(node: gs.Node, known: dict[int, Partial]) -> Partial | None:
    data = _partial(node.inputs[0], known)
    start, end = (ints(optional(node, at)) for at in (1, 2))
    step = ints(optional(node, 4)) if optional(node, 4) is not None else [1]
    if data is None or data.ndim != 1 or not start or not end or not step or step[0] < 1:
        return None
    return data[max(start[0], -len(data)) : end[0] : step[0]] if len(start) == 1 else None


def _concat(node: gs.Node, known: dict[int, Partial]) -> Partial | None:
    parts = [_partial(t, known) for t in node.inputs]
    if all(p is None for p in parts):
        return None
    whole: list[Partial] = []
    for part, tensor in zip(parts, node.inputs, strict=True):
        shape = ir.static_shape(tensor)
        if part is None and (shape is None or len(shape) != 1 or tensor.dtype is None or tensor.dtype != np.int64):
            return None
        whole.append(part if part is not None else np.full(shape or (), None, object))
    return np.concatenate(whole) if all(p.ndim == 1 for p in whole) else None


def _reshaped(node: gs.Node, known: dict[int, Partial]) -> Partial | None:
    """Squeeze and Unsqueeze between a scalar and a vector of one."""
    data = _partial(node.inputs[0], known)
    if data is None or data.size != 1:
        return None
    if node.op == "Unsqueeze":
        return data.reshape(1) if data.ndim == 0 else None
    return data.reshape(())


def _kept(node: gs.Node, known: dict[int, Partial]) -> Partial | None:
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
    "Squeeze": _reshaped,
    "Unsqueeze": _reshaped,
    "Cast": _kept,
    "Identity": _kept,
    "Add": _elementwise(lambda x, y: x + y),
    "Sub": _elementwise(lambda x, y: x - y),
    "Mul": _elementwise(lambda x, y: x * y),
    "Div": _elementwise(_divide),
}
