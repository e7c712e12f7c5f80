"""Materialize float16 rounding as casts in a float32 graph, to measure half precision on a CPU.

y = op(x), float16  ->  y = Cast(Cast(op(x), float16), float32) with x and y in float32

ONNX Runtime has few float16 kernels for CPUs: it computes in float32 and omits the rounding between two such ops, but
it keeps casts that are part of the graph. Sums within an op are float32 here, as on tensor cores.

Must not fire: after ops that only move or select values that are already rounded; tensors of other types; a Cast to
float16 that only Casts read, which is such a rounding.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from segc.graph.invariants import PORTABLE, RECENT_OPSET
from segc.passes.base import Pass, PassResult
from segc.passes.support.dtypes import F16, F32
from segc.passes.support.edit import Names

_EXACT = frozenset(
    {
        *("Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Concat", "Slice", "Split", "Expand"),
        *("Tile", "Gather", "GatherElements", "GatherND", "Pad", "DepthToSpace", "SpaceToDepth", "Where", "Max", "Min"),
        *("Relu", "MaxPool", "Neg", "Abs", "ScatterElements", "ScatterND"),
    }
)


class MaterializeFp16Rounding(Pass):
    """Compute in float32, with each rounding to float16 as two casts. For measuring only; nothing emits this form."""

    name = "materialize-fp16-rounding"
    algebra = "y = op(x), float16  ->  y = Cast(Cast(op(x), float16), float32)"
    requires = frozenset({RECENT_OPSET})
    invalidates = frozenset({PORTABLE})

    def run(self, graph: gs.Graph) -> PassResult:
        """Widen all tensors except inputs and outputs of the graph, then round each computed value."""
        result, names = PassResult(), Names(graph)
        boundary = {id(t) for t in [*graph.inputs, *graph.outputs]}
        constants: dict[int, gs.Constant] = {}
        nodes = []
        for node in graph.nodes:
            rounded = _widen(node, boundary, names, constants)
            nodes += [node, *rounded]
            result.changes += bool(rounded)
        graph.nodes = nodes
        return result


def _widen(node: gs.Node, boundary: set[int], names: Names, constants: dict[int, gs.Constant]) -> list[gs.Node]:
    """Let the node compute in float32. Returns the casts that round its outputs."""
    if node.op == "Cast" and all(user.op == "Cast" for y in node.outputs for user in y.outputs):
        return []
    to_half = node.op == "Cast" and node.attrs.get("to") == onnx.TensorProto.FLOAT16
    node.inputs = [_single(t, names, constants) for t in node.inputs]
    casts: list[gs.Node] = []
    for i, y in enumerate(node.outputs):
        if y.dtype != F16 or id(y) in boundary:
            continue
        y.dtype = F32
        if node.op in _EXACT:
            continue
        half = names.variable(y, "rounded", F16, y.shape)
        casts.append(_cast(half, y, onnx.TensorProto.FLOAT))
        if to_half:
            node.outputs[i] = half
            continue
        raw = names.variable(y, "raw", F32, y.shape)
        node.outputs[i] = raw
        casts.insert(0, _cast(raw, half, onnx.TensorProto.FLOAT16))
    return casts


def _single(tensor: gs.Tensor, names: Names, constants: dict[int, gs.Constant]) -> gs.Tensor:
    if not isinstance(tensor, gs.Constant) or tensor.dtype != F16:
        return tensor
    if id(tensor) not in constants:
        constants[id(tensor)] = gs.Constant(names.derive(tensor, "single"), tensor.values.astype(np.float32))
    return constants[id(tensor)]


def _cast(x: gs.Tensor, y: gs.Tensor, to: int) -> gs.Node:
    return gs.Node("Cast", attrs={"to": int(to)}, inputs=[x], outputs=[y])
