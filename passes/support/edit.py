"""Small helpers for editing graphs: replace tensors, derive names, read constants and attributes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

SMALL = 1024  # elements: passes read constants of at most this size; larger ones are weights


class Names:
    """Derives names for new tensors from the tensor that they serve. Equal edits of equal graphs give equal names."""

    def __init__(self, graph: gs.Graph) -> None:
        self.taken = set(graph.tensors())
        for subgraph in graph.subgraphs(recursive=True):
            self.taken.update(subgraph.tensors())

    def derive(self, tensor: gs.Tensor, role: str) -> str:
        """The name `<tensor>_<role>`, followed by underscores if that is taken."""
        name = f"{tensor.name}_{role}"
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name

    def variable(self, serves: gs.Tensor, role: str, dtype: Any, shape: Sequence[Any] | None) -> gs.Variable:
        """A new variable named after the tensor it serves."""
        return gs.Variable(self.derive(serves, role), dtype, None if shape is None else list(shape))

    def constant(self, serves: gs.Tensor, role: str, values: Any) -> gs.Constant:
        """A new constant named after the tensor it serves. Python ints become int64."""
        return gs.Constant(self.derive(serves, role), np.array(values, order="C"))


def protected(graph: gs.Graph) -> set[int]:
    """The ids of the outputs of the graph and of its subgraphs. These tensors keep their names, and must be written."""
    outputs = {id(t) for t in graph.outputs}
    for subgraph in graph.subgraphs(recursive=True):
        outputs.update(id(t) for t in subgraph.outputs)
    return outputs


def forward(graph: gs.Graph, old: gs.Variable, new: gs.Tensor, protected_ids: set[int]) -> str | None:
    """Replace `old` by `new`: all users of `old` read `new`, and the producer of `old` no longer writes it.

    A protected `old` keeps its name: the producer of `new` then writes `old` instead. protected_ids: see `protected`.
    Returns None, or, if that is impossible, the reason; the graph is then unchanged.
    """
    if id(old) not in protected_ids:
        redirect(old, new)
        old.inputs.clear()
        return None
    if isinstance(new, gs.Constant):
        return f"'{old.name}' is an output, and its value would be a constant"
    if not new.inputs:
        return f"'{old.name}' is an output, and its value would be an input"
    if id(new) in protected_ids:
        return f"'{old.name}' and '{new.name}' are both outputs"
    if not any(old is t for t in graph.outputs):
        return f"'{old.name}' is the output of a subgraph"
    producer = new.inputs[0]
    old.inputs.clear()
    redirect(new, old)
    producer.outputs = [old if t is new else t for t in producer.outputs]
    return None


def redirect(old: gs.Tensor, new: gs.Tensor) -> None:
    """Make every user of `old` read `new`."""
    users = {id(user): user for user in old.outputs}
    for user in users.values():
        user.inputs = [new if t is old else t for t in user.inputs]


def prune(graph: gs.Graph, node: gs.Node, protected_ids: set[int]) -> None:
    """Remove `node` if nothing reads its outputs, and then every node that only removed nodes read."""
    pending, gone = [node], set()
    while pending:
        dead = pending.pop()
        if id(dead) in gone or any(t.outputs or id(t) in protected_ids for t in dead.outputs):
            continue
        gone.add(id(dead))
        pending.extend(producer for t in dead.inputs for producer in t.inputs)
        dead.inputs.clear()
        dead.outputs.clear()
    if gone:
        graph.nodes = [n for n in graph.nodes if id(n) not in gone]


def small_constant(tensor: gs.Tensor, limit: int = SMALL) -> np.ndarray | None:
    """The value of a constant of at most `limit` elements; None for other tensors. Never loads weights."""
    if not isinstance(tensor, gs.Constant) or int(np.prod(tensor.shape)) > limit:
        return None
    values: np.ndarray = tensor.values
    return values


def ints(tensor: gs.Tensor | None) -> list[int] | None:
    """The values of a small integer constant as a flat list; None for other tensors."""
    value = None if tensor is None else small_constant(tensor)
    return None if value is None or value.dtype.kind not in "iu" else [int(v) for v in value.flat]


def scalar(tensor: gs.Tensor) -> float | None:
    """The value of a constant with one element; None for other tensors."""
    value = small_constant(tensor)
    return None if value is None or value.size != 1 else float(value.reshape(()))


def optional(node: gs.Node, index: int) -> gs.Tensor | None:
    """The input with this index, None if it is absent or omitted."""
    if index >= len(node.inputs) or node.inputs[index].is_empty():
        return None
    return node.inputs[index]


def rank(tensor: gs.Tensor) -> int | None:
    """The number of axes, None if it is unknown."""
    return None if tensor.shape is None else len(tensor.shape)


def same_shape(a: gs.Tensor, b: gs.Tensor) -> bool:
    """Whether both shapes are static and equal."""
    sizes = (a.shape, b.shape)
    if any(s is None or not all(isinstance(d, (int, np.integer)) for d in s) for s in sizes):
        return False
    return list(a.shape) == list(b.shape)


def reaches(shape: Sequence[Any] | None, other: Sequence[Any] | None) -> bool:
    """Whether `other` broadcasts to `shape`, that is, each of its sizes is 1 or equal to that of `shape`."""
    if shape is None or other is None or len(other) > len(shape):
        return False
    pairs = zip(reversed(shape), reversed(other), strict=False)
    return all(o == 1 or (isinstance(o, int) and o == s) or (isinstance(o, str) and o == s) for s, o in pairs)


def squeeze(graph: gs.Graph, x: gs.Tensor, y: gs.Tensor, axis: int, names: Names) -> gs.Node:
    """A Squeeze node of the graph's opset: y is x without `axis`."""
    if graph.opset < 13:
        return gs.Node("Squeeze", attrs={"axes": [axis]}, inputs=[x], outputs=[y])
    return gs.Node("Squeeze", inputs=[x, names.constant(y, "axes", [axis])], outputs=[y])


def insert(graph: gs.Graph, before: gs.Node, nodes: Iterable[gs.Node]) -> None:
    """Insert `nodes` directly before a node of the graph, so that a sorted graph stays sorted."""
    index = next(i for i, node in enumerate(graph.nodes) if node is before)
    graph.nodes[index:index] = list(nodes)


def same_symbols(x: gs.Tensor, y: gs.Tensor) -> bool:
    """Whether both shapes are equal and each size is a number or a symbol. A symbol has one value in a graph."""
    return x.shape is not None and y.shape is not None and None not in x.shape and list(x.shape) == list(y.shape)
