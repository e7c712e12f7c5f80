"""Convert the graph to float16 (half precision), except for ops that need the range or precision of float32.

y = op(x), float32  ->  y = op(Cast(x, float16)), float16, for every op except those listed below. Casts stand only at
the boundaries between the two precisions; constants are rounded once, here. Inputs and outputs of the graph stay
float32.

float16 has 11 bits; it holds nothing above 65504 and nothing except zero below 6e-8. Must not fire, each for its
reason: softmax and the scores it reads, back to their MatMul (sums, and scores of hundreds); sums, means and norms with
the squares and products they read (statistics, EncNet's distances); roots, powers, logarithms and divisions (their
epsilon would round to zero); comparisons, argmax, top-k and the resized logits they compare (rounding makes ties);
coordinates (integers above 2048 are rounded); constants out of range, and tensors listed as `large`; ops without a
float16 form; the first `depth` layers, if requested (an early rounding error passes through all later layers).
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
RANGE = "roots, powers and divisions stay in float32: an epsilon would round to zero"
DECISIONS = "compared values stay in float32: rounding makes ties"
COORDINATES = "coordinates stay in float32: float16 rounds integers above 2048"
OUTPUT = "the resized output stays in float32: its classes are compared"


EARLY = "early layers stay in float32: their rounding errors pass through all later layers"


@dataclass(frozen=True)
class ConvertToFp16(Pass):
    """Compute in float16, except for range-critical parts. Opt-in: it rounds. Cost: one walk, reads all weights once.

    depth: a node stays in float32 if no path from an input to it is longer than this many nodes.
    large: names of tensors with values beyond float16's range; nodes that read or write them stay in float32.
    """

    name: ClassVar[str] = "convert-to-fp16"
    algebra: ClassVar[str] = "y = op(x)  ->  y = op(float16(x)), except softmax, statistics, coordinates, comparisons"
    invalidates: ClassVar[frozenset[str]] = frozenset({PORTABLE, SINGLE})

    depth: int = 0
    large: tuple[str, ...] = ()

    def run(self, graph: gs.Graph) -> PassResult:
        """Decide for each node, then retype tensors and insert casts between the two precisions."""
        result = PassResult()
        candidates = [n for n in graph.nodes if _computes_floats(n)]
        kept = _reasons(graph, candidates, self.depth, frozenset(self.large))
        half = [n for n in candidates if id(n) not in kept]
        for node in candidates:
            if id(node) in kept:
                result.skip(node, kept[id(node)])
        if not half:
            return result
        _Fp16Conversion(graph, half).run()
        result.changes = len(half)
        return result

    @staticmethod
    def convertible(graph: gs.Graph) -> list[gs.Node]:
        """The nodes that `ConvertToFp16()` converts to float16, in the graph's order."""
        candidates = [n for n in graph.nodes if _computes_floats(n)]
        kept = _reasons(graph, candidates, 0, frozenset())
        return [n for n in candidates if id(n) not in kept]


def _computes_floats(node: gs.Node) -> bool:
    """Whether the node reads or writes float32, and no float16 as those that an earlier run inserted or converted."""
    if node.domain is not None or node.op in _AGNOSTIC:
        return False
    tensors = [*node.inputs, *node.outputs]
    if any(t.dtype == F16 for t in tensors):
        return False
    return any(isinstance(t, gs.Variable) and t.dtype == F32 for t in tensors)


def _reasons(graph: gs.Graph, candidates: Sequence[gs.Node], depth: int, large: frozenset[str]) -> dict[int, str]:
    """The reasons why candidates stay in float32, by id of the node; the others become float16."""
    levels = depths(graph)
    kept = {id(node): EARLY for node in candidates if levels[id(node)] <= depth}
    for node in candidates:
        if beyond := next((t.name for t in [*node.inputs, *node.outputs] if t.name in large), None):
            kept[id(node)] = f"'{beyond}' holds values beyond float16's range"
    data = _data_dependent(graph)
    captured = _captured(graph)
    for node in candidates:
        if why := _why_kept(node, data, captured):
            kept.setdefault(id(node), why)
        if node.op in _SOFTMAX:
            _keep_producers(node.inputs[:1], _LAYOUT | _SCALING, _PRODUCTS, SOFTMAX, kept)
        elif node.op in _STATISTICS:
            _keep_producers(node.inputs[:1], _SCALING - {"Add"} | {"Abs"}, frozenset(), STATISTICS, kept)
        elif node.op in _DECISIONS:
            _keep_producers(node.inputs, _LAYOUT | {"Resize"}, frozenset(), DECISIONS, kept)
    _keep_producers(graph.outputs, _LAYOUT | {"Resize", "Cast"}, frozenset(), OUTPUT, kept)
    _keep_between(candidates, kept)
    return kept


_KEPT_OPS = {
    **dict.fromkeys(_SOFTMAX, SOFTMAX),
    **dict.fromkeys(_STATISTICS, STATISTICS),
    **dict.fromkeys(_RANGE, RANGE),
    **dict.fromkeys(_DECISIONS, DECISIONS),
    "GridSample": COORDINATES,
}


def _why_kept(node: gs.Node, data: set[int], captured: set[int]) -> str | None:
    """Why the node by itself must stay in float32, None if only its neighbours can keep it there."""
    if any(True for _ in node.subgraphs()) or any(id(t) in captured for t in node.outputs):
        return "control flow and the tensors it reads stay in float32"
    if node.op in _KEPT_OPS:
        return _KEPT_OPS[node.op]
    if node.op == "Cast" and node.outputs[0].dtype != F32:
        return DECISIONS  # to an integer or a boolean: rounding moves what is cut off
    if node.op == "Div" and not isinstance(node.inputs[1], gs.Constant):
        return RANGE  # the divisor may have an epsilon
    if not any(id(t) in data for t in node.outputs):
        return COORDINATES  # computed from sizes and constants alone
    if not _accepts_fp16(node):
        return f"{node.op} has no float16 form"
    out_of_range = (_why_out_of_range(t) for t in node.inputs if isinstance(t, gs.Constant))
    return next((why for why in out_of_range if why), None)


def _data_dependent(graph: gs.Graph) -> set[int]:
    """Ids of the tensors whose values, not only shapes, depend on an input of the graph, which must be sorted."""
    data = {id(t) for t in graph.inputs}
    for node in graph.nodes:
        if node.op not in _AGNOSTIC and any(id(t) in data for t in ir.reads(node)):
            data.update(id(t) for t in node.outputs)
    return data


def _captured(graph: gs.Graph) -> set[int]:
    """Ids of the tensors that subgraphs read."""
    return {id(t) for node in graph.nodes if node.subgraphs() for t in ir.reads(node)[len(node.inputs) :]}


def _keep_producers(
    tensors: Sequence[gs.Tensor], through: frozenset[str], until: frozenset[str], why: str, kept: dict[int, str]
) -> None:
    """Keep the producers of `tensors`, upwards through ops of `through`, up to and including ops of `until`."""
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
    """Keep layout and scaling ops whose neighbours are all kept: casting there and back would only round."""
    while True:
        added = 0
        for node in candidates:
            if id(node) in kept or node.op not in _LAYOUT | _SCALING:
                continue
            producers = [n for t in node.inputs if t.dtype == F32 for n in t.inputs]
            users = [n for t in node.outputs for n in t.outputs]
            if producers and users and all(id(n) in kept for n in [*producers, *users] if n.op not in _AGNOSTIC):
                kept[id(node)] = f"between nodes that stay in float32: {kept.get(id(producers[0]), RANGE)}"
                added += 1
        if not added:
            return


def _is_data(node: gs.Node, index: int) -> bool:
    """Whether input `index` holds data to convert; the region and scales of a Resize do not."""
    return not (node.op == "Resize" and index > 0)


@cache
def _schema(op: str) -> onnx.defs.OpSchema:
    return onnx.defs.get_schema(op)


def _accepts_fp16(node: gs.Node) -> bool:
    """Whether ONNX defines the op for float16 data."""
    formals = _schema(node.op).inputs
    indices = [i for i, t in enumerate(node.inputs) if t.dtype == F32 and _is_data(node, i)]
    return all("tensor(float16)" in formals[min(i, len(formals) - 1)].types for i in indices)


def _why_out_of_range(constant: gs.Constant) -> str | None:
    """Why a float32 constant cannot be rounded to float16, None if it can."""
    if constant.dtype != F32:
        return None
    values = constant.values
    finite = np.abs(values[np.isfinite(values)])
    if float(finite.max(initial=0.0)) > LARGEST:
        return f"the constant '{constant.name}' exceeds float16's range"
    if values.size == 1 and finite.size and finite.flat[0] and not finite.astype(F16).flat[0]:
        return f"the constant '{constant.name}' would round to zero in float16"
    return None


class _Fp16Conversion:
    """Converts the nodes `half` to float16. Each tensor and constant is converted at most once in each direction."""

    def __init__(self, graph: gs.Graph, half: Sequence[gs.Node]) -> None:
        self.graph, self.half = graph, half
        self.ids = {id(n) for n in half}
        self.names, self.protected_ids = Names(graph), protected(graph)
        self.halves: dict[int, gs.Tensor] = {}
        self.singles: dict[int, gs.Variable] = {}

    def run(self) -> None:
        """Convert outputs first, so that the type of every tensor is settled before its readers are converted."""
        made = {id(t) for n in self.half for t in n.outputs if t.dtype == F32}
        for node in self.half:
            self._write_half(node)
        for node in self.half:
            node.inputs = [
                self._half(node, t) if t.dtype == F32 and _is_data(node, i) else t for i, t in enumerate(node.inputs)
            ]
        for node in self._float32_readers():
            for reader in _with_subgraphs(node):
                reader.inputs = [self._single(node, t) if id(t) in made else t for t in reader.inputs]

    def _float32_readers(self) -> list[gs.Node]:
        """The nodes that still read float32, without the casts that this pass inserts."""
        inserted = {id(n) for t in [*self.halves.values(), *self.singles.values()] for n in t.inputs}
        return [n for n in self.graph.nodes if id(n) not in self.ids | inserted and (n.op not in _AGNOSTIC or n.domain)]

    def _write_half(self, node: gs.Node) -> None:
        if node.op == "Cast":
            node.attrs["to"] = int(onnx.TensorProto.FLOAT16)
        for i, tensor in enumerate(node.outputs):
            if tensor.dtype != F32:
                continue
            if id(tensor) not in self.protected_ids:
                tensor.dtype = F16
                continue
            half = self.names.variable(tensor, "half", F16, tensor.shape)
            node.outputs[i] = half
            self.halves[id(tensor)] = half
            cast = _cast(half, tensor, onnx.TensorProto.FLOAT)
            after = next(i for i, n in enumerate(self.graph.nodes) if n is node)
            self.graph.nodes.insert(after + 1, cast)
            self.ids.add(id(cast))

    def _half(self, reader: gs.Node, tensor: gs.Tensor) -> gs.Tensor:
        """The float32 `tensor` as float16: a constant is rounded now, a variable is cast before its first reader."""
        if id(tensor) not in self.halves:
            if isinstance(tensor, gs.Constant):
                self.halves[id(tensor)] = gs.Constant(self.names.derive(tensor, "half"), tensor.values.astype(F16))
            else:
                half = self.names.variable(tensor, "half", F16, tensor.shape)
                self.halves[id(tensor)] = half
                insert(self.graph, reader, [_cast(tensor, half, onnx.TensorProto.FLOAT16)])
        return self.halves[id(tensor)]

    def _single(self, reader: gs.Node, tensor: gs.Variable) -> gs.Variable:
        """`tensor`, which has become float16, as float32."""
        if tensor.dtype == F32:
            return tensor
        if id(tensor) not in self.singles:
            single = self.names.variable(tensor, "single", F32, tensor.shape)
            self.singles[id(tensor)] = single
            insert(self.graph, reader, [_cast(tensor, single, onnx.TensorProto.FLOAT)])
        return self.singles[id(tensor)]


def _with_subgraphs(node: gs.Node) -> Iterator[gs.Node]:
    """The node and the nodes of its subgraphs."""
    yield node
    for subgraph in node.subgraphs():
        yield from ir.nodes(subgraph)


def _cast(x: gs.Tensor, y: gs.Tensor, to: int) -> gs.Node:
    return gs.Node("Cast", attrs={"to": int(to)}, inputs=[x], outputs=[y])
