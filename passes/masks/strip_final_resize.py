"""Strip the Resize at the end of a graph of logits; the caller resizes them.

    logits = Resize(x, the input's height and width), linear  ->  logits = x

The caller resizes and takes the argmax in one step, which needs no large logits: `segc.runtime.masks` does.

Must not fire: several outputs; a Resize with coordinates other than requested, that is not linear, has antialias,
resizes other axes, or resizes to another size than the input's; a Resize whose input is also an output, an input of the
graph or a constant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_graphsurgeon as gs

from segc.graph.invariants import PORTABLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import text
from segc.passes.support.edit import Names, prune, same_shape

HALF_PIXEL = ("half_pixel", "pytorch_half_pixel")


@dataclass(frozen=True)
class StripFinalResize(Pass):
    """Return what the last Resize reads. align_corners: the coordinates of the Resize that the caller will do."""

    name: ClassVar[str] = "strip-final-resize"
    algebra: ClassVar[str] = "logits = Resize(x)  ->  logits = x"
    requires: ClassVar[frozenset[str]] = Pass.requires | {PORTABLE, "planar input", "convolutions hoisted"}

    align_corners: bool = False

    def run(self, graph: gs.Graph) -> PassResult:
        """Remove the last node of the graph."""
        result = PassResult()
        if len(graph.outputs) != 1 or not graph.outputs[0].inputs or graph.outputs[0].inputs[0].op != "Resize":
            return result
        y = graph.outputs[0]
        node = y.inputs[0]
        if why := self._why_not(graph, node, y):
            result.skip(node, why)
            return result
        x, name = node.inputs[0], y.name
        y.name = Names(graph).derive(y, "resized")
        x.name = name
        graph.outputs = [x]
        prune(graph, node, {id(x)})
        result.changes = 1
        return result

    def _why_not(self, graph: gs.Graph, node: gs.Node, y: gs.Tensor) -> str | None:
        x, image = node.inputs[0], graph.inputs[0]
        coordinate_mode = text(node, "coordinate_transformation_mode", "half_pixel")
        if node.domain or text(node, "mode", "nearest") != "linear" or node.attrs.get("antialias", 0):
            return "the last Resize is not plain linear"
        if coordinate_mode not in (("align_corners",) if self.align_corners else HALF_PIXEL):
            return f"its coordinate mode is {coordinate_mode}"
        if text(node, "keep_aspect_ratio_policy", "stretch") != "stretch":
            return "it keeps the aspect ratio"
        if len(graph.inputs) != 1 or any(t.shape is None or len(t.shape) != 4 for t in (x, y, image)):
            return "the shapes of its input and output are unknown"
        if x.shape[1] != y.shape[1] or not isinstance(x.shape[1], int):
            return "it may change the number of classes"
        if any(side is None for side in y.shape[2:]) or list(y.shape[2:]) != list(image.shape[2:]):
            return f"it resizes to {list(y.shape[2:])}, but the input is {list(image.shape[2:])}"
        if same_shape(x, y) or not x.inputs:
            return f"'{x.name}' cannot be an output"
        return None
