"""The memory that activations need if nodes run in list order.

A tensor is live from the step that writes it to the last step that reads it. A graph input is live from the first step,
a graph output to the last. While a node runs, its inputs and outputs are live. The peak is what a runtime needs that
frees each tensor as early as possible and never computes in place; it bounds runtimes that do. Constants do not count.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx.helper
import onnx_graphsurgeon as gs

from segc.graph import ir

Interval = tuple[int, int]  # first and last step, both included


@dataclass(frozen=True)
class Live:
    """A tensor that is live at the peak."""

    name: str
    bytes: int
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Memory:
    """peak: bytes; step: index of the node that runs then; live: all tensors there, largest first.

    unknown: names of the tensors of unknown size, which are not counted.
    """

    peak: int
    step: int
    node: str
    live: tuple[Live, ...]
    unknown: tuple[str, ...]


def peak_memory(graph: gs.Graph, sizes: Mapping[str, int] | None = None) -> Memory:
    """The peak over all steps. sizes: numbers for symbols, such as {"H": 512}.

    Cost: linear in nodes and edges. The peak of a graph without nodes is the size of its inputs.
    """
    tensors = activations(graph)
    lifetimes = intervals(graph)
    measured = {key: nbytes(tensor, sizes or {}) for key, tensor in tensors.items()}
    steps = max(len(graph.nodes), 1)
    change = [0] * (steps + 1)
    for key, (first, last) in lifetimes.items():
        change[first] += measured[key] or 0
        change[last + 1] -= measured[key] or 0
    profile = np.cumsum(change[:steps])
    step = int(profile.argmax())
    at_peak = [tensors[key] for key, (first, last) in lifetimes.items() if first <= step <= last and measured[key]]
    live = [Live(t.name, measured[id(t)] or 0, _shape(t, sizes or {}), str(dtype_of(t))) for t in at_peak]
    return Memory(
        peak=int(profile[step]),
        step=step,
        node=graph.nodes[step].name if graph.nodes else "",
        live=tuple(sorted(live, key=lambda each: (-each.bytes, each.name))),
        unknown=tuple(tensors[key].name for key, size in measured.items() if size is None),
    )


def activations(graph: gs.Graph) -> dict[int, gs.Variable]:
    """The graph's inputs and the outputs of all nodes, by id."""
    written = [t for node in graph.nodes for t in node.outputs if not t.is_empty()]
    return {id(t): t for t in [*graph.inputs, *written]}


def intervals(graph: gs.Graph) -> dict[int, Interval]:
    """First and last step at which each activation is live, by id. A tensor that nothing reads is live for one step."""
    last = {id(t): 0 for t in graph.inputs}
    first = dict(last)
    for step, node in enumerate(graph.nodes):
        for tensor in ir.reads(node):
            if id(tensor) in last:
                last[id(tensor)] = step
        for tensor in node.outputs:
            if not tensor.is_empty():
                first[id(tensor)] = last[id(tensor)] = step
    for tensor in graph.outputs:
        if id(tensor) in last:
            last[id(tensor)] = max(len(graph.nodes) - 1, 0)
    return {key: (first[key], last[key]) for key in first}


def nbytes(tensor: gs.Tensor, sizes: Mapping[str, int]) -> int | None:
    """The size of a tensor in bytes; None if its type or shape is unknown."""
    dtype = dtype_of(tensor)
    if dtype is None or tensor.shape is None:
        return None
    known = _shape(tensor, sizes)
    return int(math.prod(known) * dtype.itemsize) if len(known) == len(tensor.shape) else None


def dtype_of(tensor: gs.Tensor) -> np.dtype[Any] | None:
    """The NumPy type. GraphSurgeon keeps ONNX's type number if NumPy has no such type."""
    if tensor.dtype is None:
        return None
    if isinstance(tensor.dtype, int):
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.dtype))
    known: np.dtype[Any] = np.dtype(tensor.dtype)
    return known


def _shape(tensor: gs.Tensor, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """The known sizes of the shape."""
    numbers = (sizes.get(size) if isinstance(size, str) else size for size in tensor.shape)
    return tuple(int(number) for number in numbers if number is not None)
