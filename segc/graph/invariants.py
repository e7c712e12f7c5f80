"""Invariants: properties of a graph that passes require, ensure and invalidate.

There are two kinds. A *property* has a check that inspects a graph: every size is a number, no Einsum is left. A
*settled* rewrite has none; instead, the pass that ensures it runs again on a copy and must change nothing.
`segc.pipeline.pipeline` checks the order of passes by the names of invariants alone.
`segc.pipeline.hooks.CheckInvariants` runs the checks after each pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph import dialect, ir, source_info

RECENT_OPSET = "recent opset"
SINGLE = "single precision"
PORTABLE = "portable"

MASK = "mask"  # the name of a mask engine's only output

# Standard ops that have a legalization pass of their own, for runtimes and opsets without the op.
LEGALIZED = (
    "ArgMax",
    "Attention",
    "Einsum",
    "GatherElements",
    "Gelu",
    "GridSample",
    "GroupNormalization",
    "InstanceNormalization",
    "LayerNormalization",
    "PRelu",
)
OLDEST_OPSET = 17  # the oldest that passes support; those after LowerOpset support older ones


@dataclass(frozen=True, slots=True)
class Breach:
    """A violation of an invariant. node: name of the node at fault, "" if no single one is. tensors: its outputs."""

    node: str
    why: str
    tensors: tuple[str, ...] = ()


Check = Callable[[gs.Graph], Iterator[Breach]]


class Rewrite(Protocol):
    """A pass, as far as the check of a settled rewrite needs it."""

    @property
    def name(self) -> str:
        """The pass's name."""

    def run(self, graph: gs.Graph) -> Any:
        """Edit the graph in place. The result has an attribute `changes`."""


@dataclass(frozen=True)
class Invariant:
    """An invariant, with its meaning in a line.

    check: yields the violations; None for a settled rewrite, which is checked by the pass that ensures it.
    """

    meaning: str
    check: Check | None = None

    @property
    def settled(self) -> bool:
        """Whether the check runs the pass that ensures the invariant again."""
        return self.check is None

    def breaches(self, graph: gs.Graph, by: Rewrite | None = None) -> list[Breach]:
        """All violations. by: the pass that ensured the invariant; a settled rewrite needs it."""
        if self.check is not None:
            return list(self.check(graph))
        if by is None:
            raise ValueError("checking a settled rewrite needs the pass that ensures it")
        return _remaining_rewrites(by, graph)

    def __call__(self, graph: gs.Graph, by: Rewrite | None = None) -> str | None:
        """None if the invariant holds; otherwise the first violation, in words."""
        return next((breach.why for breach in self.breaches(graph, by)), None)


def _remaining_rewrites(step: Rewrite, graph: gs.Graph) -> list[Breach]:
    """A violation that names the first node which the pass would still rewrite; empty if it changes nothing."""
    copy = graph.copy()
    if not (changes := step.run(copy).changes):
        return []
    unchanged = {_signature(node) for node in copy.nodes}
    rewritten = next((node for node in graph.nodes if _signature(node) not in unchanged), None)
    if rewritten is None:
        return [Breach("", f"'{step.name}' would make {changes} more changes")]
    return [_breach(rewritten, f"'{step.name}' would still rewrite node '{rewritten.name}', a {rewritten.op}")]


def _signature(node: gs.Node) -> tuple[str, ...]:
    """The op and tensor names of a node: they differ once the node was rewritten."""
    return (node.op, *(t.name for t in node.inputs), "->", *(t.name for t in node.outputs))


def _breach(node: gs.Node, why: str) -> Breach:
    return Breach(node.name, why, tuple(t.name for t in node.outputs))


def static_shapes(graph: gs.Graph) -> Iterator[Breach]:
    """Every size of every tensor is a number."""
    for tensor in [*graph.inputs, *(t for node in graph.nodes for t in node.outputs), *graph.outputs]:
        if not tensor.is_empty() and ir.static_shape(tensor) is None:
            shape = tensor.shape if tensor.shape is None else list(tensor.shape)
            yield Breach("", f"'{tensor.name}' has shape {shape}", (tensor.name,))


def single_image(graph: gs.Graph) -> Iterator[Breach]:
    """Every input with four axes has a batch of 1."""
    for tensor in graph.inputs:
        if tensor.shape is not None and len(tensor.shape) == 4 and tensor.shape[0] != 1:
            yield Breach("", f"input '{tensor.name}' has shape {list(tensor.shape)}")


def without(op: str | None = None) -> Check:
    """A check that no node of the segc dialect, or of this op of the dialect, is left, also in subgraphs."""

    def check(graph: gs.Graph) -> Iterator[Breach]:
        for node in ir.nodes(graph):
            if node.domain == dialect.DOMAIN and op in (None, node.op):
                yield _breach(node, f"node '{node.name}' is a {dialect.DOMAIN}.{node.op}")

    return check


def without_standard(op: str) -> Check:
    """A check that no node of this standard op is left, also in subgraphs."""

    def check(graph: gs.Graph) -> Iterator[Breach]:
        for node in ir.nodes(graph):
            if node.op == op and not node.domain:
                yield _breach(node, f"node '{node.name}' is a {op}")

    return check


def axes_in_order(graph: gs.Graph) -> Iterator[Breach]:
    """No explicit axis is negative, and lists of axes ascend."""
    for node in ir.nodes(graph):
        if node.domain:
            continue
        lists = [[node.attrs.get("axis", 0)], list(node.attrs.get("axes", ()))]
        index = 1 if node.op.startswith("Reduce") else {"Squeeze": 1, "Unsqueeze": 1, "Slice": 3, "Pad": 3}.get(node.op)
        if index is not None and index < len(node.inputs) and isinstance(node.inputs[index], gs.Constant):
            lists.append([int(axis) for axis in node.inputs[index].values.flat])
        for axes in lists:
            if min(axes, default=0) < 0 or axes != sorted(axes):
                yield _breach(node, f"node '{node.name}' has axes {axes}")


def symmetric_pads(graph: gs.Graph) -> Iterator[Breach]:
    """Every Conv, MaxPool and AveragePool pads both ends of a side equally, by explicit amounts."""
    for node in ir.nodes(graph):
        if node.op not in ("Conv", "MaxPool", "AveragePool") or node.domain:
            continue
        if str(node.attrs.get("auto_pad", "NOTSET")) not in ("NOTSET", "VALID"):
            yield _breach(node, f"node '{node.name}' has auto_pad {node.attrs['auto_pad']}")
        pads = list(node.attrs.get("pads", ()))
        if pads[: len(pads) // 2] != pads[len(pads) // 2 :]:
            yield _breach(node, f"node '{node.name}' has pads {pads}")


def mask_output(graph: gs.Graph) -> Iterator[Breach]:
    """The only output is `mask` of shape (N, H, W), of type uint8, uint16, int32 or int64."""
    if len(graph.outputs) != 1:
        yield Breach("", f"{len(graph.outputs)} outputs")
        return
    mask = graph.outputs[0]
    if mask.name != MASK:
        yield Breach("", f"the output is called '{mask.name}'")
    if mask.dtype not in ("uint8", "uint16", "int32", "int64"):
        yield Breach("", f"the output is {mask.dtype}")
    if mask.shape is None or len(mask.shape) != 3:
        yield Breach("", f"the output has shape {mask.shape if mask.shape is None else list(mask.shape)}")


def recent_opset(graph: gs.Graph) -> Iterator[Breach]:
    """The opset is one that all passes support."""
    if int(graph.opset) < OLDEST_OPSET:
        yield Breach("", f"the graph has opset {graph.opset}")


def single_precision(graph: gs.Graph) -> Iterator[Breach]:
    """No node computes in float16."""
    for node in ir.nodes(graph):
        if any(t.dtype is not None and t.dtype == np.float16 for t in node.outputs):
            yield _breach(node, f"node '{node.name}' computes in float16")


def planar_input(graph: gs.Graph) -> Iterator[Breach]:
    """No input is a uint8 image, whose channels are the last axis."""
    for tensor in graph.inputs:
        if tensor.dtype == np.uint8 and tensor.shape is not None and len(tensor.shape) == 4:
            yield Breach("", f"input '{tensor.name}' is uint8 of shape {list(tensor.shape)}")


def portable(graph: gs.Graph) -> Iterator[Breach]:
    """No node was made by a pass that rewrites for one runtime, according to the nodes' origins."""
    for node in graph.nodes:
        if (origin := source_info.of(node)).for_runtime:
            yield _breach(node, f"node '{node.name}' was made by '{origin.made_by}'")


def constants_folded(graph: gs.Graph) -> Iterator[Breach]:
    """No node computes a small value from constants alone. Nodes whose values would make the file grow may stay."""
    for node in graph.nodes:
        if node.domain or node.op in _FREE or not node.inputs or not node.outputs or list(node.subgraphs()):
            continue
        sizes = [ir.static_shape(t) for t in node.outputs if not t.is_empty()]
        small = all(size is not None and int(np.prod(size)) <= _SMALL for size in sizes)
        if small and all(isinstance(t, gs.Constant) or t.is_empty() for t in node.inputs):
            yield _breach(node, f"node '{node.name}', a {node.op}, computes from constants alone")


def identities_removed(graph: gs.Graph) -> Iterator[Breach]:
    """No node returns its input unchanged for all sizes."""
    for node in graph.nodes:
        if node.domain or len(node.outputs) != 1 or not node.inputs:
            continue
        x, y = node.inputs[0], node.outputs[0]
        perm = list(node.attrs.get("perm", ()))
        same_type = node.op == "Cast" and x.dtype is not None and x.dtype == y.dtype
        same_order = node.op == "Transpose" and perm and perm == sorted(perm)
        if node.op == "Identity" or same_type or same_order:
            yield _breach(node, f"node '{node.name}', a {node.op}, returns its input unchanged")


def lowerings_merged(graph: gs.Graph) -> Iterator[Breach]:
    """No two equal nodes with equal inputs, of which one comes from lowering the dialect or the mask."""
    seen: dict[tuple[object, ...], gs.Node] = {}
    for node in graph.nodes:
        if node.op in _RANDOM or list(node.subgraphs()) or not node.inputs:
            continue
        key = (node.op, node.domain, repr(sorted(node.attrs.items())), tuple(_identity(t) for t in node.inputs))
        twin = seen.setdefault(key, node)
        if twin is not node and any(source_info.of(n).made_by in _LOWERINGS for n in (twin, node)):
            yield _breach(node, f"nodes '{twin.name}' and '{node.name}', both {node.op}, are equal")


def _identity(tensor: gs.Tensor) -> object:
    small = isinstance(tensor, gs.Constant) and tensor.values.size <= 64
    return (str(tensor.values.dtype), tensor.values.shape, tensor.values.tobytes()) if small else id(tensor)


def pads_merged(graph: gs.Graph) -> Iterator[Breach]:
    """No Pad is the only reader of a Pad."""
    for node in graph.nodes:
        first = _producer(node, 0)
        if node.op == "Pad" and first is not None and first.op == "Pad" and len(node.inputs[0].outputs) == 1:
            yield _breach(node, f"Pad '{node.name}' reads Pad '{first.name}'")


def batchnorms_fused(graph: gs.Graph) -> Iterator[Breach]:
    """No BatchNormalization is the only reader of a convolution."""
    for node in graph.nodes:
        conv = _producer(node, 0)
        if node.op != "BatchNormalization" or conv is None or conv.op not in ("Conv", "ConvTranspose", "Gemm"):
            continue
        if len(node.inputs[0].outputs) == 1:
            yield _breach(node, f"BatchNormalization '{node.name}' reads {conv.op} '{conv.name}'")


def convolutions_hoisted(graph: gs.Graph) -> Iterator[Breach]:
    """No 1x1 convolution is the only reader of a Resize."""
    for node in graph.nodes:
        resize = _producer(node, 0)
        if node.op != "Conv" or resize is None or resize.op != "Resize" or len(node.inputs[0].outputs) != 1:
            continue
        shape = node.inputs[1].shape
        if shape is not None and tuple(shape[2:]) == (1, 1):
            yield _breach(node, f"1x1 convolution '{node.name}' reads Resize '{resize.name}'")


def _producer(node: gs.Node, index: int) -> gs.Node | None:
    """The node that writes this input; None for graph inputs and constants."""
    return node.inputs[index].inputs[0] if len(node.inputs) > index and node.inputs[index].inputs else None


_FREE = frozenset({"Constant", "ConstantOfShape", "Range", "RandomNormal", "RandomUniform", "Bernoulli", "Multinomial"})
_RANDOM = frozenset({"RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial", "Dropout"})
_SMALL = 4096  # elements; FoldConstants itself decides by bytes
_LOWERINGS = frozenset(
    ("lower-adaptive-avg-pool", "lower-resize-argmax", "lower-resize-argmax-tiled", "lower-resize-argmax-cells",
     "lower-resize-argmax-pairwise")
)  # fmt: skip

INVARIANTS: Mapping[str, Invariant] = {
    # of graphs as they are imported
    RECENT_OPSET: Invariant(f"the opset is {OLDEST_OPSET} or newer", recent_opset),
    SINGLE: Invariant("nothing is computed in float16", single_precision),
    PORTABLE: Invariant("no pass has rewritten the graph for one runtime", portable),
    "planar input": Invariant("no input is a uint8 image, whose channels are the last axis", planar_input),
    # of inputs and outputs
    "static shapes": Invariant("every size of every tensor is a number", static_shapes),
    "single image": Invariant("the batch is 1", single_image),
    "mask output": Invariant("the only output is the mask (N, H, W) of integers", mask_output),
    # of clean-up
    "constants folded": Invariant("no node computes a small value from constants alone", constants_folded),
    "identities removed": Invariant("no node returns its input unchanged for all sizes", identities_removed),
    "lowerings merged": Invariant("no two nodes are equal, of those that lowering made", lowerings_merged),
    "pads merged": Invariant("no Pad reads a Pad that could be merged into it", pads_merged),
    "batchnorms fused": Invariant("no BatchNormalization is left that could be fused into weights", batchnorms_fused),
    "convolutions hoisted": Invariant(
        "no 1x1 convolution reads a Resize, unless that is cheaper", convolutions_hoisted
    ),
    # of the dialect and the mask
    "no segc dialect": Invariant("no op of the segc dialect is left", without()),
    **{f"no segc.{op}": Invariant(f"no segc.{op} is left", without(op)) for op in dialect.OPS},
    "pools recognized": Invariant("no adaptive pool is expanded into slices"),
    "argmax folded": Invariant("each ArgMax is as close to the logits as it can be"),
    "thresholds folded": Invariant("no Sigmoid is compared with a constant"),
    # of a target's runtime
    **{f"no {op}": Invariant(f"no {op} is left", without_standard(op)) for op in LEGALIZED},
    "channel blocks filled": Invariant(
        "no convolution reads a Concat whose inputs are not aligned to blocks of channels"
    ),
    "floor division legalized": Invariant("no integer Div is left that the runtime rounds differently"),
    "top-k bounded": Invariant("no TopK takes more elements than the runtime allows"),
    "uint16 mask widened": Invariant("the mask is not uint16"),
    "bytes widened": Invariant("a uint8 input is cast before other nodes move it"),
    "arithmetic legalized": Invariant("no arithmetic op is left that the runtime lacks"),
    "transposed convolutions legalized": Invariant("no form of ConvTranspose is left that the runtime lacks"),
    "vector products legalized": Invariant("no MatMul has an operand with one axis"),
    "resizes legalized": Invariant("no kind of Resize to known sizes is left that the runtime lacks"),
    "dynamic resizes legalized": Invariant("no kind of Resize to unknown sizes is left that the runtime lacks"),
    "types legalized": Invariant("integers and booleans are moved as int64"),
    "mask widened": Invariant("the mask is int64"),
    "zeros of reshapes dropped": Invariant("no Reshape has allowzero"),
    "opset lowered": Invariant("the graph has the runtime's opset, or has no form in it"),
    "logic legalized": Invariant("no logical op is left that the runtime lacks"),
    "sums kept apart": Invariant("no Add is left that the runtime fuses into a convolution wrongly"),
    "operand ranks equal": Invariant("operands of arithmetic have equal ranks, or one has at most one axis"),
    "variadic operands repeated": Invariant("no Max or Min is left with too few operands for the runtime"),
    "last axes reduced": Invariant("no reduction is left that the blocks of a kernel break"),
    "folded weights owned": Invariant("weights that a BatchNormalization is folded into have one reader"),
    "no PRelu behind products": Invariant("no PRelu is left that the runtime fuses into a product wrongly"),
    "no strided pointwise Conv behind parts": Invariant("no strided 1x1 Conv is left whose stride the runtime moves"),
    "operands distinct": Invariant("no arithmetic is left whose operands are the same computed tensor"),
    "shape constants repeated": Invariant("no arithmetic of several sizes and one number is left"),
    "sizes gathered by numbers": Invariant("no Gather of a single size by a vector is left"),
    "top-k indices cast": Invariant("indices of TopK are cast before other nodes read them"),
    "axes in order": Invariant("no axis is negative, and lists of axes ascend", axes_in_order),
    "symmetric pads": Invariant("windows pad both ends of a side equally", symmetric_pads),
    "defaults written": Invariant("attributes that the runtime reads are explicit"),
    "dimensions named": Invariant("unknown sizes of inputs have names"),
}

GIVEN = frozenset({RECENT_OPSET, SINGLE, PORTABLE, "planar input"})  # assumed of imported graphs
# Invariants that only make graphs smaller or faster: pipelines of chosen passes need not ensure them.
CLEANED = frozenset({
    "constants folded", "identities removed", "lowerings merged", "pads merged", "batchnorms fused",
    "convolutions hoisted", "argmax folded", "thresholds folded", "pools recognized", "channel blocks filled",
})  # fmt: skip
# Invariants that a pass may break if it...
REVEALED = frozenset({"argmax folded", "thresholds folded", "pools recognized"})  # ...makes nodes adjacent
FORM_RULES = frozenset({  # ...creates nodes
    "sums kept apart", "axes in order", "symmetric pads", "defaults written", "operand ranks equal",
    "variadic operands repeated", "operands distinct", "last axes reduced", "sizes gathered by numbers",
    "shape constants repeated",
})  # fmt: skip
NODE_RULES = FORM_RULES | {  # ...expands an op into several others
    "arithmetic legalized", "transposed convolutions legalized", "vector products legalized", "resizes legalized",
    "dynamic resizes legalized", "types legalized", "zeros of reshapes dropped", "logic legalized",
}  # fmt: skip
