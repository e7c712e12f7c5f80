"""Fold the preprocessing into the graph: the input becomes a uint8 image as read from a file.

    x float32 (N, 3, H, W)  ->  x uint8 (N, H, W, 3) BGR:  ((float)channels of x in the model's order - mean) / std

Exact: the same float32 subtraction and division as in segc's preprocessing. The input keeps its name.

Must not fire: several inputs; a number of channels other than three; an input that is not float32 or is also an output.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from segc.graph.invariants import PORTABLE
from segc.passes.base import Pass, PassResult, Skip
from segc.passes.support.edit import Names


@dataclass(frozen=True)
class FoldPreprocessing(Pass):
    """Replace the only input by uint8 (N, H, W, 3) BGR and normalize it in the graph.

    mean, std: per channel, in the model's channel order. rgb: that order is RGB, not BGR.
    """

    name: ClassVar[str] = "fold-preprocessing"
    algebra: ClassVar[str] = "f(x)  ->  f(((float)x[..., order] - mean) / std)"
    requires: ClassVar[frozenset[str]] = Pass.requires | {PORTABLE, "planar input"}
    invalidates: ClassVar[frozenset[str]] = frozenset({"planar input", "bytes widened"})

    mean: tuple[float, ...] = (123.675, 116.28, 103.53)
    std: tuple[float, ...] = (58.395, 57.12, 57.375)
    rgb: bool = True

    def run(self, graph: gs.Graph) -> PassResult:
        """Put the new nodes before all others."""
        result = PassResult()
        if len(graph.inputs) == 1 and graph.inputs[0].dtype == np.uint8:
            return result
        if why := _why_not(graph):
            result.skips.append(_skip(graph, why))
            return result
        x, names = graph.inputs[0], Names(graph)
        n, _, h, w = x.shape
        name, x.name = x.name, names.derive(x, "normalised")
        image = gs.Variable(name, np.dtype(np.uint8), [n, h, w, 3])
        planes = names.variable(image, "planes", np.dtype(np.uint8), [n, 3, h, w])
        nodes = [gs.Node("Transpose", attrs={"perm": [0, 3, 1, 2]}, inputs=[image], outputs=[planes])]
        if self.rgb:
            swapped = names.variable(image, "swapped", planes.dtype, planes.shape)
            order = names.constant(image, "order", [2, 1, 0])
            nodes.append(gs.Node("Gather", attrs={"axis": 1}, inputs=[planes, order], outputs=[swapped]))
            planes = swapped
        floats, centred = (names.variable(image, role, x.dtype, x.shape) for role in ("floats", "centred"))
        mean, std = (
            names.constant(image, role, np.array(values, np.float32).reshape(1, 3, 1, 1))
            for role, values in (("mean", self.mean), ("std", self.std))
        )
        nodes += [
            gs.Node("Cast", attrs={"to": onnx.TensorProto.FLOAT}, inputs=[planes], outputs=[floats]),
            gs.Node("Sub", inputs=[floats, mean], outputs=[centred]),
            gs.Node("Div", inputs=[centred, std], outputs=[x]),
        ]
        graph.inputs = [image]
        graph.nodes[:0] = nodes
        result.changes = 1
        return result


def _why_not(graph: gs.Graph) -> str | None:
    if len(graph.inputs) != 1:
        return f"the graph has {len(graph.inputs)} inputs; it must have one"
    x = graph.inputs[0]
    if x.shape is None or len(x.shape) != 4 or x.shape[1] != 3 or x.dtype != np.float32:
        return f"'{x.name}' is {x.dtype} of shape {x.shape}; it must be float32 (N, 3, H, W)"
    if any(x is t for t in graph.outputs):
        return f"'{x.name}' is also an output"
    return None


def _skip(graph: gs.Graph, why: str) -> Skip:
    return Skip(", ".join(t.name for t in graph.inputs), why)
