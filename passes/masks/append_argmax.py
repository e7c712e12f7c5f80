"""Append ArgMax, so that the graph returns a mask of classes instead of logits.

logits (N, C, H, W), C > 1  ->  mask = ArgMax over C, as uint8 (uint16 above 256 classes), (N, H, W); the lowest index
wins a tie, as in torch. One channel: mask = sigmoid(x) > t. Sigmoid is strictly increasing, so for 0 < t < 1

    sigmoid(x) > t  <=>  x > logit(t) = ln(t / (1 - t))  <=>  x > c,  c the largest value of x's type <= logit(t).

For t >= 1 the comparison holds nowhere and becomes x > +inf; for t < 0 it holds everywhere except for NaN and becomes
x >= -inf; for t = 0 it holds everywhere except at -inf and becomes x > -inf. If t is so close to 0 or 1 that a float
sigmoid saturates before it, Sigmoid and Greater stay in the graph.

Must not fire: several outputs; logits of another rank; an unknown number of channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx
import onnx.helper
import onnx_graphsurgeon as gs

from segc.graph.invariants import MASK, PORTABLE
from segc.passes.base import Pass, PassResult, Skip
from segc.passes.support.edit import Names, squeeze
from segc.runtime.masks.sigmoid_threshold import cutoff


@dataclass(frozen=True)
class AppendArgMax(Pass):
    """Replace the only output, logits (N, C, H, W), by `mask` (N, H, W), uint8, or uint16 above 256 classes.

    threshold: for a head with one channel, whose mask is 1 where sigmoid(logit) > threshold; otherwise unused.
    """

    name: ClassVar[str] = "append-argmax"
    algebra: ClassVar[str] = "logits  ->  mask = ArgMax(logits), or for one channel logits > ln(t / (1 - t))"
    requires: ClassVar[frozenset[str]] = Pass.requires | {PORTABLE}
    ensures: ClassVar[frozenset[str]] = frozenset({"mask output"})
    invalidates: ClassVar[frozenset[str]] = frozenset({
        "argmax folded", "thresholds folded", "no ArgMax", "mask widened", "uint16 mask widened",
        "no segc.ResizeArgMax",  # which its ArgMax becomes
    })  # fmt: skip

    threshold: float | None = None

    def run(self, graph: gs.Graph) -> PassResult:
        """Append the comparison to the graph."""
        result = PassResult()
        if is_mask(graph):
            return result
        if why := self._why_not(graph):
            result.skips.append(Skip(", ".join(t.name for t in graph.outputs), why))
            return result
        logits = graph.outputs[0]
        _free_mask_name(graph)
        kind = np.dtype(np.uint8 if logits.shape[1] <= 256 else np.uint16)
        mask = gs.Variable(MASK, kind, [logits.shape[0], *logits.shape[2:]])
        names = Names(graph)
        binary = logits.shape[1] == 1
        graph.nodes.extend(self._threshold(graph, logits, mask, names) if binary else _argmax(logits, mask, names))
        graph.outputs = [mask]
        result.changes = 1
        return result

    def _why_not(self, graph: gs.Graph) -> str | None:
        if len(graph.outputs) != 1:
            return f"the graph has {len(graph.outputs)} outputs; it must have one"
        shape = graph.outputs[0].shape
        if shape is None or len(shape) != 4:
            return f"the output has shape {shape if shape is None else list(shape)}; it must have (N, C, H, W)"
        if not isinstance(shape[1], int):
            return f"the number of channels is unknown ({shape[1]})"
        if shape[1] > 65536:
            return f"{shape[1]} classes do not fit uint16"
        if shape[1] == 1 and self.threshold is None:
            return "an output of one channel needs a threshold"
        if any(t.name == MASK for t in graph.inputs):
            return f"an input has the name '{MASK}'"
        return None

    def _threshold(self, graph: gs.Graph, x: gs.Variable, mask: gs.Variable, names: Names) -> list[gs.Node]:
        assert self.threshold is not None
        dtype = np.dtype(x.dtype)
        nodes, compared, op, bound = [], x, "Greater", cutoff(self.threshold, dtype)
        if bound is None:
            compared = names.variable(mask, "sigmoid", dtype, x.shape)
            nodes.append(gs.Node("Sigmoid", inputs=[x], outputs=[compared]))
            bound = self.threshold
        elif self.threshold < 0:
            op = "GreaterOrEqual"
        above = names.variable(mask, "above", np.dtype(np.bool_), x.shape)
        plane = names.variable(mask, "plane", np.dtype(np.bool_), mask.shape)
        constant = names.constant(mask, "cutoff", np.array(bound, dtype))
        nodes.append(gs.Node(op, inputs=[compared, constant], outputs=[above]))
        nodes.append(squeeze(graph, above, plane, 1, names))
        nodes.append(_cast(plane, mask))
        return nodes


def is_mask(graph: gs.Graph) -> bool:
    """Whether the only output is a class map called `mask`."""
    if len(graph.outputs) != 1:
        return False
    mask = graph.outputs[0]
    return mask.name == MASK and mask.dtype in (np.uint8, np.uint16) and mask.shape is not None and len(mask.shape) == 3


def _argmax(logits: gs.Variable, mask: gs.Variable, names: Names) -> list[gs.Node]:
    class_index = names.variable(mask, "index", np.dtype(np.int64), mask.shape)
    attrs = {"axis": 1, "keepdims": 0}
    return [gs.Node("ArgMax", attrs=attrs, inputs=[logits], outputs=[class_index]), _cast(class_index, mask)]


def _cast(x: gs.Variable, y: gs.Variable) -> gs.Node:
    to = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(y.dtype))
    return gs.Node("Cast", attrs={"to": to}, inputs=[x], outputs=[y])


def _free_mask_name(graph: gs.Graph) -> None:
    """Rename a tensor that already has the name of the new output."""
    tensors = graph.tensors()
    if MASK in tensors:
        tensors[MASK].name = Names(graph).derive(tensors[MASK], "before")
