"""Split a BatchNormalization of a Concat into one BatchNormalization per convolution.

BatchNormalization(Concat(Conv(x), Conv(y), axis = 1))
    ->  Concat(BatchNormalization(Conv(x)), BatchNormalization(Conv(y)), axis = 1)

Each part keeps the constants of its channels, so every number stays the same; `fuse-conv-batchnorm` then folds them
into the weights. Every block of CGNet concatenates a convolution and a dilated convolution that way. Folded weights are
rounded again, so targets may skip this pass (`Target.skipped_passes`).

Must not fire: parts that are used elsewhere or are not outputs of a Conv, ConvTranspose or Gemm with constant weights,
since a BatchNormalization that cannot be folded would only add nodes; parts of unknown width; training mode.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph.invariants import PORTABLE, REVEALED
from segc.passes.base import Pass, PassResult
from segc.passes.support.edit import Names, insert, protected
from segc.passes.support.op_sets import LINEAR


class SplitBatchnorm(Pass):
    """Move BatchNormalization before a Concat of convolutions. Cost: none, the constants are only sliced."""

    name = "split-batchnorm"
    algebra = "BN(Concat(Conv, Conv))  ->  Concat(BN(Conv), BN(Conv))"
    requires = Pass.requires | {PORTABLE, "constants folded", "identities removed"}
    invalidates = REVEALED | {"batchnorms fused"}

    def run(self, graph: gs.Graph) -> PassResult:
        """Split each BatchNormalization that `fuse-conv-batchnorm` can fold afterwards."""
        result, names, protected_ids = PassResult(), Names(graph), protected(graph)
        for node in list(graph.nodes):
            concat = _concat_of(node)
            if concat is None:
                continue
            widths = _widths(concat)
            unknown = "the width of a part is unknown" if widths is None else None
            if why := _why_not(node, concat, protected_ids) or unknown:
                result.skip(node, why)
                continue
            assert widths is not None
            _split(graph, node, concat, widths, names)
            result.changes += 1
        return result


def _concat_of(node: gs.Node) -> gs.Node | None:
    """The Concat along the channel axis that a BatchNormalization reads, otherwise None."""
    if node.op != "BatchNormalization" or node.domain is not None or not node.inputs[0].inputs:
        return None
    concat = node.inputs[0].inputs[0]
    return concat if concat.op == "Concat" and concat.domain is None and concat.attrs.get("axis") == 1 else None


def _why_not(node: gs.Node, concat: gs.Node, protected_ids: set[int]) -> str | None:
    """Why the BatchNormalization cannot be split, None if it can."""
    if node.attrs.get("training_mode", 0) or len(node.outputs) != 1:
        return "BatchNormalization is in training mode"
    if not all(isinstance(t, gs.Constant) for t in node.inputs[1:5]):
        return "the statistics are not constant"
    for tensor in (*concat.inputs, node.inputs[0]):
        if id(tensor) in protected_ids or len(tensor.outputs) != 1:
            return f"'{tensor.name}' is also used elsewhere"
    for tensor in concat.inputs:
        producer = tensor.inputs[0] if tensor.inputs else None
        if producer is None or producer.op not in LINEAR or producer.domain is not None:
            return f"'{tensor.name}' is not the output of a convolution"
        if not all(isinstance(t, gs.Constant) and len(t.outputs) == 1 for t in producer.inputs[1:] if not t.is_empty()):
            return f"the weights of '{tensor.name}' are computed, or shared"
    return None


def _widths(concat: gs.Node) -> list[int] | None:
    """The channels of each part, None if any is unknown."""
    sizes = [tensor.shape[1] if tensor.shape is not None else None for tensor in concat.inputs]
    known = [int(size) for size in sizes if isinstance(size, (int, np.integer))]
    return known if len(known) == len(sizes) else None


def _split(graph: gs.Graph, node: gs.Node, concat: gs.Node, widths: list[int], names: Names) -> None:
    """One BatchNormalization per part, and a Concat that writes the output of `node`."""
    y, offsets, batchnorms = node.outputs[0], np.cumsum([0, *widths]), []
    for index, part in enumerate(concat.inputs):
        channels = slice(offsets[index], offsets[index + 1])
        constants = [
            names.constant(y, f"{role}{index}", t.values[channels].copy())
            for role, t in zip(("scale", "shift", "mean", "var"), node.inputs[1:5], strict=True)
        ]
        normalized = names.variable(y, f"part{index}", part.dtype, part.shape)
        batchnorms.append(
            gs.Node("BatchNormalization", attrs=dict(node.attrs), inputs=[part, *constants], outputs=[normalized])
        )
    parts = [n.outputs[0] for n in batchnorms]
    concat.inputs.clear()
    concat.outputs.clear()
    node.inputs.clear()
    node.outputs.clear()
    insert(graph, node, [*batchnorms, gs.Node("Concat", attrs={"axis": 1}, inputs=parts, outputs=[y])])
    graph.nodes = [n for n in graph.nodes if n is not node and n is not concat]
