"""Compute convolutions and matrix products in 8-bit integers, with the ranges of their inputs given.

y = Conv(x, w)  ->  y = Conv(DQ(Q(x)), DQ(int8 w)), where Q and DQ are QuantizeLinear and DequantizeLinear: runtimes
that have integer kernels fuse them into one. x becomes uint8 or int8 with one scale, w int8 with a scale for each
output channel. So do Gemm and MatMul with a constant of rank 2. Rounding w shifts the mean of y, by (w - int8 w) times
the mean of x where that is known; the bias takes it back.

Around them, what can stay in integers does: the inputs of additions, concatenations, resizes and pools whose result is
quantized are quantized too, and a resize or max pool, which makes no new values, keeps the scale of what it reads. A
Relu, or a Clip from 0, before Q is dropped: Q cuts off what it would.

Must not fire: after the last convolution, where masks are made; where a range is missing; on nodes listed in `kept`. A
node that is not quantized computes in float32 on what DQ gives back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from segc.passes.base import Pass, PassResult
from segc.passes.support import evaluate
from segc.passes.support.dtypes import F32
from segc.passes.support.edit import Names, protected
from segc.passes.support.integers import CARRIED, PLAIN, Form, computing

RESCALED = frozenset({"Resize", "MaxPool"})  # no value of the output lies outside those of the input


@dataclass(frozen=True)
class Quantize(Pass):
    """Compute in 8-bit integers where ranges are known. Opt-in: it rounds.

    ranges: (tensor, low, high). kept: names of nodes that stay in float32. form: what the runtime has kernels for.
    per_channel: a scale for each output channel of the weights, otherwise one. means: (tensor, mean of each channel),
    for correcting biases; empty for leaving them.
    """

    name: ClassVar[str] = "quantize"
    algebra: ClassVar[str] = "y = Conv(x, w)  ->  y = Conv(DQ(Q(x)), DQ(int8 w)), and so what lies between"

    ranges: tuple[tuple[str, float, float], ...] = ()
    kept: tuple[str, ...] = ()
    form: Form = PLAIN
    per_channel: bool = True
    means: tuple[tuple[str, tuple[float, ...]], ...] = ()

    def run(self, graph: gs.Graph) -> PassResult:
        """Choose the nodes, then the tensors between them, then insert Q and DQ."""
        result = PassResult()
        if not self.ranges:
            return result
        edit = _Edit(graph, self)
        nodes = [node for node in computing(graph, self.form) if self._takes(node, edit, result)]
        edit.mark(nodes)
        for node in nodes:
            edit.weights(node)
        edit.activations()
        result.changes = len(nodes)
        return result

    def _takes(self, node: gs.Node, edit: _Edit, result: PassResult) -> bool:
        if node.name in self.kept:
            result.skip(node, "kept in float32")
            return False
        if why := self.form.why_not(node):
            result.skip(node, why)
            return False
        missing = [t.name for t in edit.needed(node) if t.name not in edit.ranges]
        if missing:
            result.skip(node, f"the range of '{missing[0]}' is not known")
        return not missing


def channel_axis(node: gs.Node) -> int:
    """The axis of the weights along which the output's channels lie."""
    if node.op == "Conv" or node.attrs.get("transB", 0):
        return 0
    return 1


class _Edit:
    """The tensors of one graph that become uint8, and the nodes around them."""

    def __init__(self, graph: gs.Graph, how: Quantize) -> None:
        self.graph, self.names, self.outputs = graph, Names(graph), protected(graph)
        self.ranges = {name: (low, high) for name, low, high in how.ranges}
        self.form, self.per_channel = how.form, how.per_channel
        self.rounded = how.form.rounded_outputs
        self.means = {name: np.array(mean) for name, mean in how.means}
        self.marked: dict[int, gs.Variable] = {}
        self.scales: dict[int, tuple[gs.Constant, gs.Constant]] = {}

    def needed(self, node: gs.Node) -> list[gs.Variable]:
        """The tensors whose ranges a node cannot do without."""
        return [node.inputs[0], *([self.result_of(node)] if self.rounded else [])]

    def result_of(self, node: gs.Node) -> gs.Variable:
        """The output, or that of the Relu that follows."""
        y: gs.Variable = node.outputs[0]
        if len(y.outputs) == 1 and id(y) not in self.outputs and _cuts_at_zero(y.outputs[0]):
            return y.outputs[0].outputs[0]
        return y

    def mark(self, nodes: list[gs.Node]) -> None:
        """The inputs, and outputs where they are rounded; from there on upwards what carries values."""
        pending = [t for node in nodes for t in self.needed(node)]
        while pending:
            tensor = pending.pop()
            if id(tensor) in self.marked or tensor.name not in self.ranges or tensor.dtype != F32:
                continue
            self.marked[id(tensor)] = tensor
            producer = self._carrier(tensor) if self.form.carried else None
            if producer is not None:
                pending += [t for t in _values(producer) if isinstance(t, gs.Variable)]

    def _carrier(self, tensor: gs.Variable) -> gs.Node | None:
        """The node that carries values to a tensor, through a Relu too; None for one that computes in float32."""
        node = tensor.inputs[0] if tensor.inputs else None
        if node is not None and _cuts_at_zero(node) and self._drops(tensor):
            node = node.inputs[0].inputs[0] if node.inputs[0].inputs else None
        return node if node is not None and node.op in CARRIED and not node.domain else None

    def _drops(self, tensor: gs.Variable) -> bool:
        """Whether Q does what the Relu that makes the tensor does."""
        if self.form.signed:
            return False
        before = tensor.inputs[0].inputs[0]
        read_once = len(before.outputs) == 1 and id(before) not in self.outputs and id(tensor) not in self.outputs
        return read_once and bool(before.inputs) and self.ranges[tensor.name][0] >= 0

    def scale(self, tensor: gs.Variable) -> tuple[gs.Constant, gs.Constant]:
        """Scale and zero point; a resize or pool has those of what it reads."""
        producer = tensor.inputs[0] if tensor.inputs else None
        if producer is not None and producer.op in RESCALED and id(producer.inputs[0]) in self.marked:
            return self.scale(producer.inputs[0])
        if id(tensor) not in self.scales:
            low, high = self.ranges[tensor.name]
            scale, zero = (symmetric if self.form.signed else parameters)(low, high)
            self.scales[id(tensor)] = (
                self.names.constant(tensor, "scale", scale), self.names.constant(tensor, "zero", zero),
            )  # fmt: skip
        return self.scales[id(tensor)]

    def weights(self, node: gs.Node) -> None:
        """The weights in int8, and the bias in int32 where the runtime wants it so."""
        weight, axis = node.inputs[1], channel_axis(node)
        values = evaluate.array(weight)
        others = tuple(at for at in range(values.ndim) if at != axis)
        largest = np.abs(values).max(axis=others if self.per_channel else None, keepdims=True)
        largest = np.broadcast_to(largest, [n if at == axis else 1 for at, n in enumerate(values.shape)])
        along = np.where(largest > 0, largest / 127, 1).astype(np.float32)
        rounded, scales = np.clip(np.rint(values / along), -127, 127).astype(np.int8), along.reshape(-1)
        self._correct(node, values - rounded * along)
        if self.form.stored_weights:
            node.inputs[1] = self._dequantized(node, "weight", rounded, scales, axis)
        else:
            node.inputs[1] = self.names.constant(node.outputs[0], "weight", rounded * along)
        if len(node.inputs) > 2 and not node.inputs[2].is_empty() and self.rounded:
            scale = np.float64(self.scale(node.inputs[0])[0].values) * scales.astype(np.float64)
            bias = np.rint(evaluate.array(node.inputs[2]) / scale).clip(-(2**31) + 1, 2**31 - 1).astype(np.int32)
            node.inputs[2] = self._dequantized(node, "bias", bias, scale.astype(np.float32), 0)

    def _correct(self, node: gs.Node, lost: np.ndarray) -> None:
        """Add to the bias of a convolution what rounding its weights takes from the mean of its output."""
        mean = self.means.get(node.inputs[0].name)
        if node.op != "Conv" or mean is None:
            return
        shift = shift_of(lost, mean, node.attrs.get("group", 1))
        given = node.inputs[2] if len(node.inputs) > 2 and not node.inputs[2].is_empty() else None
        bias = shift if given is None else evaluate.array(given) + shift
        corrected = self.names.constant(node.outputs[0], "corrected_bias", bias.astype(np.float32))
        node.inputs = [*node.inputs[:2], corrected]

    def _dequantized(self, node: gs.Node, role: str, values: np.ndarray, scales: np.ndarray, axis: int) -> gs.Variable:
        y = node.outputs[0]
        given = [self.names.constant(y, role, values), self.names.constant(y, f"{role}_scale", scales)]
        if self.form.signed:  # such runtimes want the zero point said
            given.append(self.names.constant(y, f"{role}_zero", np.zeros(scales.shape, values.dtype)))
        out = self.names.variable(y, f"{role}_dequantized", F32, values.shape)
        attrs = {"axis": axis}
        self.graph.nodes.append(gs.Node("DequantizeLinear", out.name, attrs, inputs=given, outputs=[out]))
        return out

    def activations(self) -> None:
        """Q and DQ after each marked tensor; all its readers read what DQ gives."""
        for tensor in self.marked.values():
            scale, zero = self.scale(tensor)
            readers = {id(user): user for user in tensor.outputs}
            producer = tensor.inputs[0] if tensor.inputs else None
            source = tensor
            if producer is not None and _cuts_at_zero(producer) and self._drops(tensor):
                source = producer.inputs[0]
            small = self.names.variable(tensor, "quantized", zero.values.dtype.type, tensor.shape)
            back = self.names.variable(tensor, "dequantized", F32, tensor.shape)
            for user in readers.values():
                user.inputs = [back if t is tensor else t for t in user.inputs]
            if producer is not None and source is not tensor:
                producer.inputs.clear()
                producer.outputs.clear()
            self.graph.nodes += [
                gs.Node("QuantizeLinear", small.name, inputs=[source, scale, zero], outputs=[small]),
                gs.Node("DequantizeLinear", back.name, inputs=[small, scale, zero], outputs=[back]),
            ]
        self.graph.cleanup().toposort()


def parameters(low: float, high: float) -> tuple[np.float32, np.uint8]:
    """Scale and zero point of uint8 for values from low to high; 0 is represented exactly."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32((high - low) / 255) or np.float32(1)
    return scale, np.uint8(np.clip(np.rint(-low / float(scale)), 0, 255))


def symmetric(low: float, high: float) -> tuple[np.float32, np.int8]:
    """Scale of int8 for values from low to high, with zero point 0; -128 is not used."""
    return np.float32(max(-low, high, 0.0) / 127) or np.float32(1), np.int8(0)


def shift_of(lost: np.ndarray, mean: np.ndarray, group: int) -> np.ndarray:
    """The mean that each output channel of a convolution loses: weights (O, I / group, ...) times means (I,)."""
    summed = lost.reshape(*lost.shape[:2], -1).sum(axis=2)
    by_group = summed.reshape(group, -1, lost.shape[1])
    shift: np.ndarray = np.einsum("goi,gi->go", by_group, mean.reshape(group, -1)).reshape(-1)
    return shift


def _cuts_at_zero(node: gs.Node) -> bool:
    """A Relu, or a Clip that starts at 0: its upper bound lies in the range of what it gives."""
    if node.domain or node.op not in ("Relu", "Clip"):
        return False
    low = node.inputs[1] if node.op == "Clip" and len(node.inputs) > 1 else None
    return node.op == "Relu" or (isinstance(low, gs.Constant) and bool(np.all(evaluate.array(low) == 0)))


def _values(node: gs.Node) -> list[gs.Tensor]:
    """The inputs that values come from, not sizes."""
    return list(node.inputs) if node.op in ("Add", "Concat") else list(node.inputs[:1])
