"""Small edits that passes share: forwarding a tensor, deriving names, reading constants and attributes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

SMALL = 1024  # elements: constants up to here may be looked into; larger ones are weights


class Names:
    """Names for new tensors, derived from the tensor they serve. Equal edits on equal graphs give equal names."""

    def __init__(self, graph: gs.Graph) -> None:
        self.taken = set(graph.tensors())
        for subgraph in graph.subgraphs(recursive=True):
            self.taken.update(subgraph.tensors())

    def derive(self, tensor: gs.Tensor, role: str) -> str:
        """`<tensor>_<role>`, with underscores added while that is taken."""
        name = f"{tensor.name}_{role}"
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name

    def variable(self, serves: gs.Tensor, role: str, dtype: Any, shape: Sequence[Any] | None) -> gs.Variable:
        """A new variable named after the tensor it serves."""
        return gs.Variable(self.derive(serves, role), dtype, None if shape is None else list(shape))

    def constant(self, serves: gs.Tensor, role: str, values: Any) -> gs.Constant:
        """A new constant named after the tensor it serves; Python ints become int64."""
        return gs.Constant(self.derive(serves, role), np.array(values, order="C"))


def protected(graph: gs.Graph) -> set[int]:
    """Ids of the tensors that are outputs of the graph or of one of its subgraphs: they keep their names."""
    outputs = {id(t) for t in graph.outputs}
    for subgraph in graph.subgraphs(recursive=True):
        outputs.update(id(t) for t in subgraph.outputs)
    return outputs


def forward(graph: gs.Graph, old: gs.Variable, new: gs.Tensor, protected_ids: set[int]) -> str | None:
    """Let every user of `old` read `new`; the producer of `old` loses it. protected_ids: see `protected`.

    A protected `old` keeps its name: then the producer of `new` writes `old` from now on. Returns the reason where
    that cannot be, and leaves the graph as it was.
    """
    if id(old) not in protected_ids:
        redirect(old, new)
        old.inputs.clear()
        return None
    if isinstance(new, gs.Constant):
        return f"'{old.name}' is an output and its value a constant"
    if not new.inputs:
        return f"'{old.name}' is an output and its value an input"
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
    """Let every user of `old` read `new`."""
    users = {id(user): user for user in old.outputs}
    for user in users.values():
        user.inputs = [new if t is old else t for t in user.inputs]


def prune(graph: gs.Graph, node: gs.Node, protected_ids: set[int]) -> None:
    """Remove `node` if nothing reads it any more, and then whatever only it read."""
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
    """The value of a constant of at most `limit` elements; weights are never loaded for this."""
    if not isinstance(tensor, gs.Constant) or int(np.prod(tensor.shape)) > limit:
        return None
    values: np.ndarray = tensor.values
    return values


def ints(tensor: gs.Tensor | None) -> list[int] | None:
    """The values of a small integer constant as a flat list."""
    value = None if tensor is None else small_constant(tensor)
    return None if value is None or value.dtype.kind not in "iu" else [int(v) for v in value.flat]


def scalar(tensor: gs.Tensor) -> float | None:
    """The value of a constant with one element."""
    value = small_constant(tensor)
    return None if value is None or value.size != 1 else float(value.reshape(()))


def optional(node: gs.Node, at: int) -> gs.Tensor | None:
    """Input number `at`, None when it is absent or omitted."""
    if at >= len(node.inputs) or node.inputs[at].is_empty():
        return None
    return node.inputs[at]


def rank(tensor: gs.Tensor) -> int | None:
    """The number of dimensions, None when it is unknown."""
    return None if tensor.shape is None else len(tensor.shape)


def same_shape(a: gs.Tensor, b: gs.Tensor) -> bool:
    """Whether both shapes are static and equal."""
    sizes = (a.shape, b.shape)
    if any(s is None or not all(isinstance(d, (int, np.integer)) for d in s) for s in sizes):
        return False
    return list(a.shape) == list(b.shape)


def reaches(shape: Sequence[Any] | None, other: Sequence[Any] | None) -> bool:
    """Whether `other` broadcasts into `shape` without enlarging it: each of its sizes is 1 or the same number."""
    if shape is None or other is None or len(other) > len(shape):
        return False
    pairs = zip(reversed(shape), reversed(other), strict=False)
    return all(o == 1 or (isinstance(o, int) and o == s) or (isinstance(o, str) and o == s) for s, o in pairs)


def squeeze(graph: gs.Graph, x: gs.Tensor, y: gs.Tensor, axis: int, names: Names) -> gs.Node:
    """Spell y = x without `axis` for the graph's opset."""
    if graph.opset < 13:
        return gs.Node("Squeeze", attrs={"axes": [axis]}, inputs=[x], outputs=[y])
    return gs.Node("Squeeze", inputs=[x, names.constant(y, "axes", [axis])], outputs=[y])


def insert(graph: gs.Graph, at: gs.Node, nodes: Iterable[gs.Node]) -> None:
    """Put `nodes` into the graph's list where `at` stands, so that a sorted graph stays sorted."""
    index = next(i for i, node in enumerate(graph.nodes) if node is at)
    graph.nodes[index:index] = list(nodes)


def same_symbols(x: gs.Tensor, y: gs.Tensor) -> bool:
    """Whether both shapes are fully known, by number or by symbol, and equal. A symbol has one value per graph."""
    return x.shape is not None and y.shape is not None and None not in x.shape and list(x.shape) == list(y.shape)
