"""Take BatchNormalization to the convolutions whose outputs it normalizes together.

BatchNormalization(Concat(Conv(x), Conv(y), axis = 1))
    ->  Concat(BatchNormalization(Conv(x)), BatchNormalization(Conv(y)), axis = 1)

Each part keeps its channels' constants, so every number stays the same; `fuse-conv-batchnorm` then folds them into the
weights. CGNet joins a convolution and a dilated one that way in every block. Folded weights are rounded anew, so
targets may skip this pass (`Target.skips`).

Must not fire: parts that are not outputs of a Conv, ConvTranspose or Gemm with constant weights, or are used elsewhere,
since what cannot be folded would be more nodes than before; parts of unknown width; training mode.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from segc.passes.base import Pass, PassResult
from segc.passes.cleanup.fuse_conv_batchnorm import LINEAR
from segc.passes.support.edit import Names, insert, protected


class SplitBatchnorm(Pass):
    """Move BatchNormalization in front of a Concat of convolutions. Cost: nothing, the constants are cut."""

    name = "split-batchnorm"
    algebra = "BN(Concat(Conv, Conv))  ->  Concat(BN(Conv), BN(Conv))"

    def run(self, graph: gs.Graph) -> PassResult:
        """Split every BatchNormalization that `fuse-conv-batchnorm` can then fold."""
        result, names, keep = PassResult(), Names(graph), protected(graph)
        for node in list(graph.nodes):
            concat = _joined(node)
            if concat is None:
                continue
            widths = _widths(concat)
            if why := _blocked(node, concat, keep) or ("a part's width is unknown" if widths is None else None):
                result.skip(node, why)
                continue
            assert widths is not None
            _split(graph, node, concat, widths, names)
            result.changes += 1
        return result


def _joined(node: gs.Node) -> gs.Node | None:
    """The Concat of channels that a BatchNormalization reads."""
    if node.op != "BatchNormalization" or node.domain is not None or not node.inputs[0].inputs:
        return None
    concat = node.inputs[0].inputs[0]
    return concat if concat.op == "Concat" and concat.domain is None and concat.attrs.get("axis") == 1 else None


def _blocked(node: gs.Node, concat: gs.Node, keep: set[int]) -> str | None:
    """Why it stays."""
    if node.attrs.get("training_mode", 0) or len(node.outputs) != 1:
        return "BatchNormalization is in training mode"
    if not all(isinstance(t, gs.Constant) for t in node.inputs[1:5]):
        return "the statistics are not constant"
    for tensor in (*concat.inputs, node.inputs[0]):
        if id(tensor) in keep or len(tensor.outputs) != 1:
            return f"'{tensor.name}' is also used elsewhere"
    for tensor in concat.inputs:
        made = tensor.inputs[0] if tensor.inputs else None
        if made is None or made.op not in LINEAR or made.domain is not None:
            return f"'{tensor.name}' is not the output of a convolution"
        if not all(isinstance(t, gs.Constant) and len(t.outputs) == 1 for t in made.inputs[1:] if not t.is_empty()):
            return f"the weights of '{tensor.name}' are computed, or shared"
    return None


def _widths(concat: gs.Node) -> list[int] | None:
    """Channels of each part."""
    sizes = [tensor.shape[1] if tensor.shape is not None else None for tensor in concat.inputs]
    known = [int(size) for size in sizes if isinstance(size, (int, np.integer))]
    return known if len(known) == len(sizes) else None


def _split(graph: gs.Graph, node: gs.Node, concat: gs.Node, widths: list[int], names: Names) -> None:
    """One BatchNormalization a part, and a Concat that writes what `node` wrote."""
    joined, edges, made = node.outputs[0], np.cumsum([0, *widths]), []
    for at, part in enumerate(concat.inputs):
        cut = slice(edges[at], edges[at + 1])
        constants = [
            names.constant(joined, f"{role}{at}", t.values[cut].copy())
            for role, t in zip(("scale", "shift", "mean", "var"), node.inputs[1:5], strict=True)
        ]
        y = names.variable(joined, f"part{at}", part.dtype, part.shape)
        made.append(gs.Node("BatchNormalization", attrs=dict(node.attrs), inputs=[part, *constants], outputs=[y]))
    parts = [n.outputs[0] for n in made]
    concat.inputs.clear()
    concat.outputs.clear()
    node.inputs.clear()
    node.outputs.clear()
    insert(graph, node, [*made, gs.Node("Concat", attrs={"axis": 1}, inputs=parts, outputs=[joined])])
    graph.nodes = [n for n in graph.nodes if n is not node and n is not concat]
