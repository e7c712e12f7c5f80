"""End the graph in a class map instead of logits.

logits (N, C, H, W), C > 1  ->  mask = ArgMax over C, as uint8 (uint16 above 256 classes), (N, H, W); the lowest index
wins a tie, as in torch. One channel: sigmoid(x) > t. Sigmoid grows strictly, so for 0 < t < 1

    sigmoid(x) > t  <=>  x > logit(t) = ln(t / (1 - t))  <=>  x > c,  c the largest value of x's type <= logit(t).

t >= 1 holds nowhere and becomes x > +inf; t < 0 holds everywhere but for NaN and becomes x >= -inf; t = 0 holds
everywhere but at -inf and becomes x > -inf.

Must not fire: t so close to 0 or 1 that a float sigmoid saturates before it gets there (Sigmoid and Greater stay then),
several outputs, logits of another rank, or an unknown number of channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx
import onnx.helper
import onnx_graphsurgeon as gs

from segc.passes.base import Pass, PassResult, Skip
from segc.passes.support.edit import Names, squeeze
from segc.runtime.masks.sigmoid_threshold import cutoff

MASK = "mask"


@dataclass(frozen=True)
class AppendArgMax(Pass):
    """Replace the only output, logits (N, C, H, W), by `mask` (N, H, W), uint8, or uint16 above 256 classes.

    threshold: of a one-channel head, which gives 1 where sigmoid(logit) > threshold; unused with more channels.
    """

    name: ClassVar[str] = "mask-output"
    algebra: ClassVar[str] = "logits  ->  mask = ArgMax(logits), or for one channel logits > ln(t / (1 - t))"
    gives: ClassVar[frozenset[str]] = frozenset({"mask-output"})

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
        _make_room(graph)
        kind = np.dtype(np.uint8 if logits.shape[1] <= 256 else np.uint16)
        mask = gs.Variable(MASK, kind, [logits.shape[0], *logits.shape[2:]])
        names = Names(graph)
        binary = logits.shape[1] == 1
        graph.nodes.extend(self._channel(graph, logits, mask, names) if binary else _argmax(logits, mask, names))
        graph.outputs = [mask]
        result.changes = 1
        return result

    def _why_not(self, graph: gs.Graph) -> str | None:
        if len(graph.outputs) != 1:
            return f"{len(graph.outputs)} outputs, one is needed"
        shape = graph.outputs[0].shape
        if shape is None or len(shape) != 4:
            return f"the output's shape is {shape if shape is None else list(shape)}, (N, C, H, W) is needed"
        if not isinstance(shape[1], int):
            return f"the number of channels is unknown ({shape[1]})"
        if shape[1] > 65536:
            return f"{shape[1]} classes do not fit uint16"
        if shape[1] == 1 and self.threshold is None:
            return "one channel needs a threshold"
        if any(t.name == MASK for t in graph.inputs):
            return f"an input is called '{MASK}'"
        return None

    def _channel(self, graph: gs.Graph, x: gs.Variable, mask: gs.Variable, names: Names) -> list[gs.Node]:
        assert self.threshold is not None
        dtype = np.dtype(x.dtype)
        nodes, compared, op, cut = [], x, "Greater", cutoff(self.threshold, dtype)
        if cut is None:
            compared = names.variable(mask, "sigmoid", dtype, x.shape)
            nodes.append(gs.Node("Sigmoid", inputs=[x], outputs=[compared]))
            cut = self.threshold
        elif self.threshold < 0:
            op = "GreaterOrEqual"
        above = names.variable(mask, "above", np.dtype(np.bool_), x.shape)
        plane = names.variable(mask, "plane", np.dtype(np.bool_), mask.shape)
        constant = names.constant(mask, "cutoff", np.array(cut, dtype))
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
    winner = names.variable(mask, "index", np.dtype(np.int64), mask.shape)
    attrs = {"axis": 1, "keepdims": 0}
    return [gs.Node("ArgMax", attrs=attrs, inputs=[logits], outputs=[winner]), _cast(winner, mask)]


def _cast(x: gs.Variable, y: gs.Variable) -> gs.Node:
    to = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(y.dtype))
    return gs.Node("Cast", attrs={"to": to}, inputs=[x], outputs=[y])


def _make_room(graph: gs.Graph) -> None:
    """Rename a tensor that is called like the output to come."""
    tensors = graph.tensors()
    if MASK in tensors:
        tensors[MASK].name = Names(graph).derive(tensors[MASK], "before")
