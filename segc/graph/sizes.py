"""What a graph's tensors need, judged before memory is asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx.helper
import onnx_graphsurgeon as gs

from segc.errors import Code, ShapeError
from segc.graph import ir

_ASSUMED = 4  # bytes of a value of unknown type


def require_fitting(graph: gs.Graph, memory: int) -> None:
    """Raise ShapeError where one tensor of known shape takes more than `memory` bytes."""
    for tensor in graph.tensors().values():
        shape = ir.static_shape(tensor)
        if isinstance(tensor, gs.Variable) and shape is not None:
            require_memory(f"tensor '{tensor.name}'", shape, _itemsize(tensor), memory)


def require_memory(what: str, shape: Sequence[int], itemsize: int, memory: int) -> None:
    """Raise ShapeError where values of `itemsize` bytes in this shape take more than `memory` bytes."""
    if (need := math.prod(shape) * itemsize) > memory:
        raise ShapeError(
            f"{what} of the shape {'x'.join(map(str, shape))} needs {need / 2**30:.1f} GiB",
            code=Code.TOO_LARGE,
            because=f"--memory-limit allows {memory / 2**30:.1f} GiB",
            so="choose a smaller --shape, or raise --memory-limit",
        )


def _itemsize(tensor: gs.Variable) -> int:
    dtype = tensor.dtype
    if isinstance(dtype, int):  # graphsurgeon keeps ONNX's number where NumPy has no such type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(dtype)
    return _ASSUMED if dtype is None else int(np.dtype(dtype).itemsize)
