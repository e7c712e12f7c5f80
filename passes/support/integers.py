"""Which nodes compute in 8-bit integers where a runtime has kernels for it, and which carry integers between them."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_graphsurgeon as gs

from segc.passes.support import evaluate
from segc.passes.support.dtypes import F32
from segc.passes.support.edit import Names

COMPUTE = frozenset({"Conv", "Gemm", "MatMul"})
CARRIED = frozenset({"Add", "Concat", "Resize", "MaxPool", "AveragePool", "GlobalAveragePool"})
OPS = tuple(sorted(COMPUTE | CARRIED | {"Relu", "Clip"}))  # whose tensors need ranges


@dataclass(frozen=True)
class Form:
    """What integers a runtime has kernels for.

    rounded_outputs: there is no integer convolution with a float32 result: outputs become integers too, and
    convolutions before the mask stay in float32 as a whole. Such a runtime has no integer Gemm: see `split_gemms`.
    largest_stride: its integer convolutions are wrong for larger ones; 0 for none. signed: values are int8 with zero
    point 0, otherwise uint8 with any. carried: additions, concatenations, resizes and pools between them are integers
    too. stored_weights: weights become int8 constants behind DequantizeLinear; otherwise they stay float32 constants,
    rounded to multiples of their scale. grouped: convolutions of groups of several channels have a scale for each
    channel. ops: which ones compute.
    """

    rounded_outputs: bool = True
    largest_stride: int = 0
    signed: bool = False
    carried: bool = True
    stored_weights: bool = True
    grouped: bool = True
    ops: frozenset[str] = COMPUTE

    def why_not(self, node: gs.Node) -> str | None:
        """Why a node of `computing` stays in float32, or None."""
        if self.largest_stride and max(node.attrs.get("strides", [1])) > self.largest_stride:
            return f"the runtime computes int8 convolutions of a stride above {self.largest_stride} wrongly"
        group = node.attrs.get("group", 1)
        if not self.grouped and group not in (1, node.inputs[1].shape[0]):
            return "the runtime has one scale for the channels of a group"
        return None


PLAIN = Form()


def computing(graph: gs.Graph, form: Form) -> list[gs.Node]:
    """The nodes that may compute in integers: those above the last convolution, and that itself if its output may be
    float32.
    """
    convolutions = [node for node in graph.nodes if node.op == "Conv"]
    above = _ancestors(convolutions)
    last = set() if form.rounded_outputs else {id(node) for node in convolutions}
    ops = form.ops - {"Gemm"} if form.rounded_outputs else form.ops
    return [node for node in graph.nodes if id(node) in above | last and node.op in ops and _computes(node)]


def split_gemms(graph: gs.Graph) -> int:
    """Make MatMul and Add of each Gemm above the last convolution, for runtimes with an integer MatMul and no Gemm."""
    names, above = Names(graph), _ancestors([node for node in graph.nodes if node.op == "Conv"])
    found = [node for node in graph.nodes if id(node) in above and node.op == "Gemm" and _computes(node)]
    for node in found:
        values = evaluate.array(node.inputs[1])
        if node.attrs.get("transB", 0):
            node.inputs[1] = names.constant(node.outputs[0], "weight", values.T)
        y, bias = node.outputs[0], [t for t in node.inputs[2:] if not t.is_empty()]
        node.op, node.attrs, node.inputs = "MatMul", {}, list(node.inputs[:2])
        if bias:
            product = names.variable(y, "product", F32, y.shape)
            node.outputs = [product]
            graph.nodes.append(gs.Node("Add", product.name, inputs=[product, bias[0]], outputs=[y]))
    if found:
        graph.toposort()
    return len(found)


def _ancestors(nodes: list[gs.Node]) -> set[int]:
    """The ids of all nodes whose results these nodes depend on."""
    found: set[int] = set()
    pending = list(nodes)
    while pending:
        for producer in (p for t in pending.pop().inputs for p in t.inputs):
            if id(producer) not in found:
                found.add(id(producer))
                pending.append(producer)
    return found


def _computes(node: gs.Node) -> bool:
    """Whether it is a product of one variable and constant float32 weights, in a form that integer kernels have."""
    if node.op not in COMPUTE or node.domain or not isinstance(node.inputs[0], gs.Variable):
        return False
    weight, rest = node.inputs[1], node.inputs[2:]
    if not (isinstance(weight, gs.Constant) and weight.dtype == F32 and node.inputs[0].dtype == F32):
        return False
    if not all(isinstance(t, gs.Constant) and len(t.shape) == 1 for t in rest if not t.is_empty()):
        return False
    if node.op == "Conv":
        return True
    plain = node.attrs.get("alpha", 1.0) == 1.0 == node.attrs.get("beta", 1.0) and not node.attrs.get("transA", 0)
    return len(weight.shape) == 2 and plain
