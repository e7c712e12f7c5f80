"""Write half precision into the graph's types, and keep in single precision what half cannot carry.

y = op(x), float32  ->  y = op(Cast(x, float16)), float16, for every op but those that must not fire. Casts stand only
at the borders between the two precisions; constants are rounded once, here. Inputs and outputs of the graph stay
float32.

float16 holds 11 bits, nothing above 65504 and nothing but zero below 6e-8. Must not fire, each for its reason:
softmax and the scores it reads back to their MatMul (sums, and scores of hundreds); sums, means and norms with the
squares and products they read (statistics, EncNet's distances); roots, powers, logarithms and quotients of them (their
epsilon would round to zero); comparisons, argmax, top-k and the resized logits they decide on (rounding makes ties);
coordinates (whole numbers above 2048 are rounded); constants out of range, and tensors that are said to be `large`;
ops without a float16 form; and the first `depth` layers, where asked for (what is rounded early passes through all
layers that follow).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np
import onnx
import onnx.defs
import onnx_graphsurgeon as gs

from segc.graph import ir
from segc.graph.analysis.depth import depths
from segc.graph.invariants import PORTABLE, SINGLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.dtypes import F16, F32
from segc.passes.support.edit import Names, insert, protected

LARGEST = 65504.0  # of float16


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_STATISTICS = _words(
    "ReduceSum ReduceMean ReduceL1 ReduceL2 ReduceSumSquare ReduceProd ReduceLogSum ReduceLogSumExp GlobalAveragePool"
    " GlobalLpPool CumSum LayerNormalization GroupNormalization InstanceNormalization BatchNormalization LRN"
    " LpNormalization MeanVarianceNormalization RMSNormalization"
)
_RANGE = _words("Sqrt Pow Exp Log Reciprocal Softplus")
_SOFTMAX = _words("Softmax LogSoftmax Hardmax Attention")
_DECISIONS = _words(
    "ArgMax ArgMin TopK Greater GreaterOrEqual Less LessOrEqual Equal IsNaN IsInf NonZero OneHot Floor Ceil Round Mod"
    " Sign NonMaxSuppression"
)
_LAYOUT = _words(
    "Identity Reshape Transpose Squeeze Unsqueeze Flatten Concat Slice Split Expand Tile Gather GatherElements GatherND"
    " Pad DepthToSpace SpaceToDepth Where Max Min Trilu"
)
_SCALING = _words("Add Sub Mul Div Neg")
_PRODUCTS = _words("MatMul Gemm Einsum")
_AGNOSTIC = _words("Shape Size")

SOFTMAX = "softmax sums and the scores they read stay in float32"
STATISTICS = "sums and statistics stay in float32"
RANGE = "roots, powers and quotients stay in float32: an epsilon would round to zero"
DECISIONS = "what is decided by comparing stays in float32: rounding makes ties"
COORDINATES = "coordinates stay in float32: float16 rounds whole numbers above 2048"
OUTPUT = "the resized output stays in float32: its largest class is decided by comparing"


EARLY = "early layers stay in float32: what is rounded there passes through all others"


@dataclass(frozen=True)
class ConvertToFp16(Pass):
    """Compute in float16, but for range-critical parts. Opt-in: it rounds. Cost: one walk, and all weights once.

    depth: nodes stay in float32 to which no path from an input is longer than this many nodes.
    large: names of tensors that hold values beyond float16's range; nodes that read or write them stay in float32.
    """

    name: ClassVar[str] = "convert-to-fp16"
    algebra: ClassVar[str] = "y = op(x)  ->  y = op(float16(x)), but for softmax, statistics, coordinates, decisions"
    invalidates: ClassVar[frozenset[str]] = frozenset({PORTABLE, SINGLE})

    depth: int = 0
    large: tuple[str, ...] = ()

    def run(self, graph: gs.Graph) -> PassResult:
        """Decide for each node, then retype tensors and put casts between the two precisions."""
        result = PassResult()
        candidates = [n for n in graph.nodes if _computes_floats(n)]
        kept = _reasons(graph, candidates, self.depth, frozenset(self.large))
        half = [n for n in candidates if id(n) not in kept]
        for node in candidates:
            if id(node) in kept:
                result.skip(node, kept[id(node)])
        if not half:
            return result
        _Retyping(graph, half).run()
        result.changes = len(half)
        return result

    @staticmethod
    def convertible(graph: gs.Graph) -> list[gs.Node]:
        """The nodes that `ConvertToFp16()` makes compute in float16, in the graph's order."""
        candidates = [n for n in graph.nodes if _computes_floats(n)]
        kept = _reasons(graph, candidates, 0, frozenset())
        return [n for n in candidates if id(n) not in kept]


def _computes_floats(node: gs.Node) -> bool:
    """Whether a float32 tensor goes in or out and the node is not a cast that an earlier run has put there."""
    if node.domain is not None or node.op in _AGNOSTIC:
        return False
    tensors = [*node.inputs, *node.outputs]
    if node.op == "Cast" and any(t.dtype == F16 for t in tensors):
        return False
    return any(isinstance(t, gs.Variable) and t.dtype == F32 for t in tensors)


def _reasons(graph: gs.Graph, candidates: Sequence[gs.Node], depth: int, large: frozenset[str]) -> dict[int, str]:
    """Why a candidate stays in float32, by id of the node; what is not in it becomes float16."""
    levels = depths(graph)
    kept = {id(node): EARLY for node in candidates if levels[id(node)] <= depth}
    for node in candidates:
        if beyond := next((t.name for t in [*node.inputs, *node.outputs] if t.name in large), None):
            kept[id(node)] = f"'{beyond}' holds values beyond float16's range"
    data = _data_dependent(graph)
    captured = _captured(graph)
    for node in candidates:
        if why := _why_alone(node, data, captured):
            kept.setdefault(id(node), why)
        if node.op in _SOFTMAX:
            _keep_back(node.inputs[:1], _LAYOUT | _SCALING, _PRODUCTS, SOFTMAX, kept)
        elif node.op in _STATISTICS:
            _keep_back(node.inputs[:1], _SCALING - {"Add"} | {"Abs"}, frozenset(), STATISTICS, kept)
        elif node.op in _DECISIONS:
            _keep_back(node.inputs, _LAYOUT | {"Resize"}, frozenset(), DECISIONS, kept)
    _keep_back(graph.outputs, _LAYOUT | {"Resize", "Cast"}, frozenset(), OUTPUT, kept)
    _keep_between(candidates, kept)
    return kept


def _why_alone(node: gs.Node, data: set[int], captured: set[int]) -> str | None:
    """The reason that lies in the node itself."""
    if any(True for _ in node.subgraphs()) or any(id(t) in captured for t in node.outputs):
        return "control flow and what it reads stay in float32"
    if node.op in _SOFTMAX:
        return SOFTMAX
    if node.op in _STATISTICS:
        return STATISTICS
    if node.op in _RANGE or (node.op == "Div" and not isinstance(node.inputs[1], gs.Constant)):
        return RANGE
    if node.op in _DECISIONS:
        return DECISIONS
    if node.op == "GridSample" or not any(id(t) in data for t in node.outputs):
        return COORDINATES
    if not all(_takes_half(node, at) for at, t in enumerate(node.inputs) if t.dtype == F32 and _converts(node, at)):
        return f"{node.op} has no float16 form"
    return next((why for t in node.inputs if isinstance(t, gs.Constant) and (why := _out_of_range(t))), None)


def _data_dependent(graph: gs.Graph) -> set[int]:
    """Ids of the tensors whose values, not only shapes, depend on an input of the graph. The graph is sorted."""
    data = {id(t) for t in graph.inputs}
    for node in graph.nodes:
        if node.op not in _AGNOSTIC and any(id(t) in data for t in ir.reads(node)):
            data.update(id(t) for t in node.outputs)
    return data


def _captured(graph: gs.Graph) -> set[int]:
    """Ids of the tensors that subgraphs read."""
    return {id(t) for node in graph.nodes if node.subgraphs() for t in ir.reads(node)[len(node.inputs) :]}


def _keep_back(
    tensors: Sequence[gs.Tensor], through: frozenset[str], until: frozenset[str], why: str, kept: dict[int, str]
) -> None:
    """Keep what makes `tensors`, backwards through ops of `through`, the ops of `until` included as the last."""
    pending, seen = [node for t in tensors for node in t.inputs], set[int]()
    while pending:
        node = pending.pop()
        if id(node) in seen or node.op not in through | until or node.domain is not None or not _computes_floats(node):
            continue
        seen.add(id(node))
        kept.setdefault(id(node), why)
        if node.op in through:
            pending.extend(producer for t in node.inputs for producer in t.inputs)


def _keep_between(candidates: Sequence[gs.Node], kept: dict[int, str]) -> None:
    """Keep layout and scaling ops that stand between kept ones only: casting there and back would only round."""
    while True:
        grown = 0
        for node in candidates:
            if id(node) in kept or node.op not in _LAYOUT | _SCALING:
                continue
            makers = [n for t in node.inputs if t.dtype == F32 for n in t.inputs]
            users = [n for t in node.outputs for n in t.outputs]
            if makers and users and all(id(n) in kept for n in [*makers, *users] if n.op not in _AGNOSTIC):
                kept[id(node)] = f"between parts that stay: {kept.get(id(makers[0]), RANGE)}"
                grown += 1
        if not grown:
            return


def _converts(node: gs.Node, at: int) -> bool:
    """Whether input `at` is computed with: a Resize's region and scales are not."""
    return not (node.op == "Resize" and at > 0)


@cache
def _schema(op: str) -> onnx.defs.OpSchema:
    return onnx.defs.get_schema(op)


def _takes_half(node: gs.Node, at: int) -> bool:
    schema = _schema(node.op)
    formal = schema.inputs[min(at, len(schema.inputs) - 1)]
    return "tensor(float16)" in formal.types


def _out_of_range(constant: gs.Constant) -> str | None:
    """Why a float32 constant would lose its meaning in float16."""
    if constant.dtype != F32:
        return None
    values = constant.values
    finite = np.abs(values[np.isfinite(values)])
    if float(finite.max(initial=0.0)) > LARGEST:
        return f"the constant '{constant.name}' exceeds float16's range"
    if values.size == 1 and finite.size and finite.flat[0] and not finite.astype(F16).flat[0]:
        return f"the constant '{constant.name}' would round to zero in float16"
    return None


class _Retyping:
    """Makes `half` nodes compute in float16. Each tensor and constant is converted at most once each way."""

    def __init__(self, graph: gs.Graph, half: Sequence[gs.Node]) -> None:
        self.graph, self.half = graph, half
        self.ids = {id(n) for n in half}
        self.names, self.keep = Names(graph), protected(graph)
        self.halves: dict[int, gs.Tensor] = {}
        self.singles: dict[int, gs.Variable] = {}

    def run(self) -> None:
        """Outputs first, so that the type of every tensor is settled before it is read."""
        made = {id(t) for n in self.half for t in n.outputs if t.dtype == F32}
        for node in self.half:
            self._write_half(node)
        for node in self.half:
            node.inputs = [
                self._half(node, t) if t.dtype == F32 and _converts(node, at) else t for at, t in enumerate(node.inputs)
            ]
        for node in self._others():
            for reader in _inside(node):
                reader.inputs = [self._single(node, t) if id(t) in made else t for t in reader.inputs]

    def _others(self) -> list[gs.Node]:
        """Nodes that read float32 still. The casts made here come later and are none of them."""
        inserted = {id(n) for t in [*self.halves.values(), *self.singles.values()] for n in t.inputs}
        return [n for n in self.graph.nodes if id(n) not in self.ids | inserted and (n.op not in _AGNOSTIC or n.domain)]

    def _write_half(self, node: gs.Node) -> None:
        if node.op == "Cast":
            node.attrs["to"] = int(onnx.TensorProto.FLOAT16)
        for at, tensor in enumerate(node.outputs):
            if tensor.dtype != F32:
                continue
            if id(tensor) not in self.keep:
                tensor.dtype = F16
                continue
            half = self.names.variable(tensor, "half", F16, tensor.shape)
            node.outputs[at] = half
            self.halves[id(tensor)] = half
            cast = _cast(half, tensor, onnx.TensorProto.FLOAT)
            after = next(i for i, n in enumerate(self.graph.nodes) if n is node)
            self.graph.nodes.insert(after + 1, cast)
            self.ids.add(id(cast))

    def _half(self, reader: gs.Node, tensor: gs.Tensor) -> gs.Tensor:
        """`tensor`, float32, as float16: rounded now when it is a constant, cast where it is first read otherwise."""
        if id(tensor) not in self.halves:
            if isinstance(tensor, gs.Constant):
                self.halves[id(tensor)] = gs.Constant(self.names.derive(tensor, "half"), tensor.values.astype(F16))
            else:
                half = self.names.variable(tensor, "half", F16, tensor.shape)
                self.halves[id(tensor)] = half
                insert(self.graph, reader, [_cast(tensor, half, onnx.TensorProto.FLOAT16)])
        return self.halves[id(tensor)]

    def _single(self, reader: gs.Node, tensor: gs.Variable) -> gs.Variable:
        """`tensor`, float16 by now, as float32."""
        if tensor.dtype == F32:
            return tensor
        if id(tensor) not in self.singles:
            single = self.names.variable(tensor, "single", F32, tensor.shape)
            self.singles[id(tensor)] = single
            insert(self.graph, reader, [_cast(tensor, single, onnx.TensorProto.FLOAT)])
        return self.singles[id(tensor)]


def _inside(node: gs.Node) -> Iterator[gs.Node]:
    """The node and the nodes of its subgraphs."""
    yield node
    for subgraph in node.subgraphs():
        yield from ir.nodes(subgraph)


def _cast(x: gs.Tensor, y: gs.Tensor, to: int) -> gs.Node:
    return gs.Node("Cast", attrs={"to": int(to)}, inputs=[x], outputs=[y])
