"""What a graph computes but for its weights, as a digest: the same on every machine that compiles the same model."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph import ir


def digest(graph: gs.Graph) -> str:
    """SHA-256 of the nodes in order, their attributes, types and shapes; of constants, integers have their values.

    Names do not count. The values of float constants do not either: they differ in their last bits between processors.
    """
    numbers: dict[int, int] = {}
    rows: list[Any] = [graph.opset]
    rows += [["input", numbers.setdefault(id(t), len(numbers)), _type(t)] for t in graph.inputs]
    for node in ir.nodes(graph):
        inputs = [_described(t, numbers) for t in node.inputs]
        outputs = [numbers.setdefault(id(t), len(numbers)) for t in node.outputs]
        attributes = {name: _attribute(value) for name, value in sorted(node.attrs.items())}
        rows.append([node.domain or "", node.op, inputs, outputs, attributes])
    rows += [["output", numbers.get(id(t)), _type(t)] for t in graph.outputs]
    return hashlib.sha256(json.dumps(rows, default=str).encode()).hexdigest()


def _described(tensor: gs.Tensor, numbers: dict[int, int]) -> Any:
    if tensor.is_empty():
        return None
    if not isinstance(tensor, gs.Constant):
        return numbers.setdefault(id(tensor), len(numbers))
    exact = np.dtype(tensor.dtype).kind in "iub"
    return [_type(tensor), hashlib.sha256(np.ascontiguousarray(tensor.values).tobytes()).hexdigest() if exact else ""]


def _type(tensor: gs.Tensor) -> list[str]:
    return [
        str(tensor.dtype and np.dtype(tensor.dtype)),
        *map(str, tensor.shape if tensor.shape is not None else ["?"]),
    ]


def _attribute(value: Any) -> Any:
    """A value that JSON can hold; a graph or a tensor counts by its type and shape."""
    if isinstance(value, gs.Graph):
        return digest(value)
    if isinstance(value, gs.Tensor | np.ndarray):
        return [str(value.dtype), *map(str, value.shape)]
    return value.decode() if isinstance(value, bytes) else value
