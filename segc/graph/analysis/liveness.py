"""How much memory the activations need, when nodes run in the order of the list.

A tensor is live from the step that writes it (an input of the graph: from the first) to the last that reads it (an
output of the graph: to the last). While a node runs, what it reads and what it writes are live. The peak is what a
runtime needs that frees early and never computes in place: an upper bound for those that do. Constants do not count.
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

    unknown: names of tensors without a known size; they count as nothing.
    """

    peak: int
    step: int
    node: str
    live: tuple[Live, ...]
    unknown: tuple[str, ...]


def peak_memory(graph: gs.Graph, sizes: Mapping[str, int] | None = None) -> Memory:
    """The peak of the schedule that the graph's list is. sizes: numbers for symbols, such as {"H": 512}.

    Cost: linear in nodes and edges. A graph without nodes needs what its inputs need.
    """
    tensors = activations(graph)
    found = intervals(graph)
    measured = {key: nbytes(tensor, sizes or {}) for key, tensor in tensors.items()}
    steps = max(len(graph.nodes), 1)
    change = [0] * (steps + 1)
    for key, (first, last) in found.items():
        change[first] += measured[key] or 0
        change[last + 1] -= measured[key] or 0
    profile = np.cumsum(change[:steps])
    step = int(profile.argmax())
    there = [tensors[key] for key, (first, last) in found.items() if first <= step <= last and measured[key]]
    live = [Live(t.name, measured[id(t)] or 0, _shape(t, sizes or {}), str(dtype_of(t))) for t in there]
    return Memory(
        peak=int(profile[step]),
        step=step,
        node=graph.nodes[step].name if graph.nodes else "",
        live=tuple(sorted(live, key=lambda each: (-each.bytes, each.name))),
        unknown=tuple(tensors[key].name for key, size in measured.items() if size is None),
    )


def activations(graph: gs.Graph) -> dict[int, gs.Variable]:
    """Inputs of the graph and what nodes write, by id."""
    written = [t for node in graph.nodes for t in node.outputs if not t.is_empty()]
    return {id(t): t for t in [*graph.inputs, *written]}


def intervals(graph: gs.Graph) -> dict[int, Interval]:
    """First and last step at which each activation is live, by id. What nobody reads lives for one step."""
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
    """Bytes of a tensor; None where type or shape is unknown."""
    dtype = dtype_of(tensor)
    if dtype is None or tensor.shape is None:
        return None
    known = _shape(tensor, sizes)
    return int(math.prod(known) * dtype.itemsize) if len(known) == len(tensor.shape) else None


def dtype_of(tensor: gs.Tensor) -> np.dtype[Any] | None:
    """The NumPy type; graphsurgeon keeps ONNX's number where NumPy itself has no such type."""
    if tensor.dtype is None:
        return None
    if isinstance(tensor.dtype, int):
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.dtype))
    known: np.dtype[Any] = np.dtype(tensor.dtype)
    return known


def _shape(tensor: gs.Tensor, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """The sizes that are known."""
    numbers = (sizes.get(size) if isinstance(size, str) else size for size in tensor.shape)
    return tuple(int(number) for number in numbers if number is not None)
