"""Spell a graph in float16 as one in float32 that rounds by name, to see on a CPU what half precision really does.

y = op(x), float16  ->  y = Cast(Cast(op(x), float16), float32) with x and y in float32

ONNX Runtime has few float16 kernels for CPUs. It computes in float32 instead and, between two such ops, leaves the
rounding away; casts that stand in the graph it keeps. Sums inside an op are float32 here, as tensor cores have them.

Must not fire: after ops that only move or choose among values that are rounded already; for tensors of other types;
for a Cast to float16 that only a Cast reads, which is such a rounding.
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
    """Compute in float32, with each rounding to float16 as two casts. For measuring; nothing is emitted like this."""

    name = "materialize-fp16-rounding"
    algebra = "y = op(x), float16  ->  y = Cast(Cast(op(x), float16), float32)"
    requires = frozenset({RECENT_OPSET})
    invalidates = frozenset({PORTABLE})

    def run(self, graph: gs.Graph) -> PassResult:
        """Widen all tensors but inputs and outputs of the graph, then round what is computed."""
        result, names = PassResult(), Names(graph)
        edge = {id(t) for t in [*graph.inputs, *graph.outputs]}
        constants: dict[int, gs.Constant] = {}
        nodes = []
        for node in graph.nodes:
            rounded = _widen(node, edge, names, constants)
            nodes += [node, *rounded]
            result.changes += bool(rounded)
        graph.nodes = nodes
        return result


def _widen(node: gs.Node, edge: set[int], names: Names, constants: dict[int, gs.Constant]) -> list[gs.Node]:
    """Make the node compute in float32; returns the casts that round its outputs."""
    if node.op == "Cast" and all(user.op == "Cast" for y in node.outputs for user in y.outputs):
        return []
    to_half = node.op == "Cast" and node.attrs.get("to") == onnx.TensorProto.FLOAT16
    node.inputs = [_single(t, names, constants) for t in node.inputs]
    casts: list[gs.Node] = []
    for at, y in enumerate(node.outputs):
        if y.dtype != F16 or id(y) in edge:
            continue
        y.dtype = F32
        if node.op in _EXACT:
            continue
        half = names.variable(y, "rounded", F16, y.shape)
        casts.append(_cast(half, y, onnx.TensorProto.FLOAT))
        if to_half:
            node.outputs[at] = half
            continue
        raw = names.variable(y, "raw", F32, y.shape)
        node.outputs[at] = raw
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
