"""Properties of a graph that passes require, ensure and invalidate, each with a check that runs on a graph.

Two kinds. A *property* is looked at: every size is a number, no Einsum is left. A *settled* rewrite is tried: the pass
that ensures it runs again on a copy and must find nothing more to do. `segc.pipeline.pipeline` checks the order of
passes by their names alone; `segc.pipeline.hooks.CheckInvariants` runs the checks after each pass.
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

MASK = "mask"  # what the only output of a mask engine is called

# Standard ops that a pass of their own rewrites for runtimes and opsets without them.
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
    "ScatterElements",
)
OLDEST_OPSET = 17  # that passes are written for, but for those that come after LowerOpset


@dataclass(frozen=True, slots=True)
class Breach:
    """What stands against an invariant. node: its name, "" where no single one is at fault; tensors: what it writes."""

    node: str
    why: str
    tensors: tuple[str, ...] = ()


Check = Callable[[gs.Graph], Iterator[Breach]]


class Rewrite(Protocol):
    """What a settled rewrite is tried with: a pass."""

    @property
    def name(self) -> str:
        """Of the pass."""

    def run(self, graph: gs.Graph) -> Any:
        """Edit in place; the result has `changes`."""


@dataclass(frozen=True)
class Invariant:
    """A property of a graph, with its meaning in a line.

    check: yields what breaks it; None for a settled rewrite, which needs the pass that ensured it.
    """

    meaning: str
    check: Check | None = None

    @property
    def settled(self) -> bool:
        """Whether the pass that ensures it is run again to see."""
        return self.check is None

    def breaches(self, graph: gs.Graph, by: Rewrite | None = None) -> list[Breach]:
        """What breaks it. by: the pass that ensured it, of which a settled rewrite asks whether it finds more to do."""
        if self.check is not None:
            return list(self.check(graph))
        if by is None:
            raise ValueError("a settled rewrite is checked by the pass that ensures it")
        return _found_by(by, graph)

    def __call__(self, graph: gs.Graph, by: Rewrite | None = None) -> str | None:
        """None: it holds; otherwise what breaks it first."""
        return next((breach.why for breach in self.breaches(graph, by)), None)


def _found_by(step: Rewrite, graph: gs.Graph) -> list[Breach]:
    """The first node that the pass would still rewrite."""
    copy = graph.copy()
    if not (changes := step.run(copy).changes):
        return []
    left = {_spelling(node) for node in copy.nodes}
    touched = next((node for node in graph.nodes if _spelling(node) not in left), None)
    if touched is None:
        return [Breach("", f"'{step.name}' finds {changes} more changes")]
    return [_breach(touched, f"'{step.name}' would still rewrite node '{touched.name}', a {touched.op}")]


def _spelling(node: gs.Node) -> tuple[str, ...]:
    """What tells a node that was rewritten from one that was not."""
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
    """Inputs that are maps hold one image."""
    for tensor in graph.inputs:
        if tensor.shape is not None and len(tensor.shape) == 4 and tensor.shape[0] != 1:
            yield Breach("", f"input '{tensor.name}' has shape {list(tensor.shape)}")


def without(op: str | None = None) -> Check:
    """No node of the segc dialect, or none of this op of it, subgraphs included."""

    def check(graph: gs.Graph) -> Iterator[Breach]:
        for node in ir.nodes(graph):
            if node.domain == dialect.DOMAIN and op in (None, node.op):
                yield _breach(node, f"node '{node.name}' is a {dialect.DOMAIN}.{node.op}")

    return check


def without_standard(op: str) -> Check:
    """No node of this standard op, subgraphs included."""

    def check(graph: gs.Graph) -> Iterator[Breach]:
        for node in ir.nodes(graph):
            if node.op == op and not node.domain:
                yield _breach(node, f"node '{node.name}' is a {op}")

    return check


def axes_in_order(graph: gs.Graph) -> Iterator[Breach]:
    """Every axis that is written down counts from the front, and lists of axes ascend."""
    for node in ir.nodes(graph):
        if node.domain:
            continue
        lists = [[node.attrs.get("axis", 0)], list(node.attrs.get("axes", ()))]
        at = 1 if node.op.startswith("Reduce") else {"Squeeze": 1, "Unsqueeze": 1, "Slice": 3, "Pad": 3}.get(node.op)
        if at is not None and at < len(node.inputs) and isinstance(node.inputs[at], gs.Constant):
            lists.append([int(axis) for axis in node.inputs[at].values.flat])
        for axes in lists:
            if min(axes, default=0) < 0 or axes != sorted(axes):
                yield _breach(node, f"node '{node.name}' has axes {axes}")


def symmetric_pads(graph: gs.Graph) -> Iterator[Breach]:
    """Every Conv, MaxPool and AveragePool pads both ends of a side alike, and says how much."""
    for node in ir.nodes(graph):
        if node.op not in ("Conv", "MaxPool", "AveragePool") or node.domain:
            continue
        if str(node.attrs.get("auto_pad", "NOTSET")) not in ("NOTSET", "VALID"):
            yield _breach(node, f"node '{node.name}' has auto_pad {node.attrs['auto_pad']}")
        pads = list(node.attrs.get("pads", ()))
        if pads[: len(pads) // 2] != pads[len(pads) // 2 :]:
            yield _breach(node, f"node '{node.name}' has pads {pads}")


def mask_output(graph: gs.Graph) -> Iterator[Breach]:
    """The only output is `mask` of shape (N, H, W): uint8 or uint16, or int32 or int64 for want of smaller."""
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
    """The opset is one that passes are written for."""
    if int(graph.opset) < OLDEST_OPSET:
        yield Breach("", f"the graph has opset {graph.opset}")


def single_precision(graph: gs.Graph) -> Iterator[Breach]:
    """No node computes in float16."""
    for node in ir.nodes(graph):
        if any(t.dtype is not None and t.dtype == np.float16 for t in node.outputs):
            yield _breach(node, f"node '{node.name}' computes in float16")


def planar_input(graph: gs.Graph) -> Iterator[Breach]:
    """No input is an image of bytes, whose channels come last."""
    for tensor in graph.inputs:
        if tensor.dtype == np.uint8 and tensor.shape is not None and len(tensor.shape) == 4:
            yield Breach("", f"input '{tensor.name}' is uint8 of shape {list(tensor.shape)}")


def portable(graph: gs.Graph) -> Iterator[Breach]:
    """No node was made by a pass that rewrites for one runtime, as its record of origin tells."""
    for node in graph.nodes:
        if (origin := source_info.of(node)).for_runtime:
            yield _breach(node, f"node '{node.name}' was made by '{origin.made_by}'")


def constants_folded(graph: gs.Graph) -> Iterator[Breach]:
    """No node computes a small value from constants alone. Values that would make the file grow may stay."""
    for node in graph.nodes:
        if node.domain or node.op in _FREE or not node.inputs or not node.outputs or list(node.subgraphs()):
            continue
        sizes = [ir.static_shape(t) for t in node.outputs if not t.is_empty()]
        small = all(size is not None and int(np.prod(size)) <= _SMALL for size in sizes)
        if small and all(isinstance(t, gs.Constant) or t.is_empty() for t in node.inputs):
            yield _breach(node, f"node '{node.name}', a {node.op}, computes from constants alone")


def identities_removed(graph: gs.Graph) -> Iterator[Breach]:
    """No node returns its input whatever the sizes are."""
    for node in graph.nodes:
        if node.domain or len(node.outputs) != 1 or not node.inputs:
            continue
        x, y = node.inputs[0], node.outputs[0]
        perm = list(node.attrs.get("perm", ()))
        same_type = node.op == "Cast" and x.dtype is not None and x.dtype == y.dtype
        same_order = node.op == "Transpose" and perm and perm == sorted(perm)
        if node.op == "Identity" or same_type or same_order:
            yield _breach(node, f"node '{node.name}', a {node.op}, returns its input")


def lowerings_merged(graph: gs.Graph) -> Iterator[Breach]:
    """No two nodes of the same inputs and attributes, one of them made by lowering the dialect or the mask."""
    seen: dict[tuple[object, ...], gs.Node] = {}
    for node in graph.nodes:
        if node.op in _RANDOM or list(node.subgraphs()) or not node.inputs:
            continue
        key = (node.op, node.domain, repr(sorted(node.attrs.items())), tuple(_identity(t) for t in node.inputs))
        twin = seen.setdefault(key, node)
        if twin is not node and any(source_info.of(n).made_by in _LOWERINGS for n in (twin, node)):
            yield _breach(node, f"nodes '{twin.name}' and '{node.name}', both {node.op}, compute the same")


def _identity(tensor: gs.Tensor) -> object:
    small = isinstance(tensor, gs.Constant) and tensor.values.size <= 64
    return (str(tensor.values.dtype), tensor.values.shape, tensor.values.tobytes()) if small else id(tensor)


def pads_merged(graph: gs.Graph) -> Iterator[Breach]:
    """No Pad is the only reader of a Pad."""
    for node in graph.nodes:
        first = _maker(node, 0)
        if node.op == "Pad" and first is not None and first.op == "Pad" and len(node.inputs[0].outputs) == 1:
            yield _breach(node, f"Pad '{node.name}' reads Pad '{first.name}'")


def batchnorms_fused(graph: gs.Graph) -> Iterator[Breach]:
    """No BatchNormalization is the only reader of a convolution."""
    for node in graph.nodes:
        made = _maker(node, 0)
        if node.op != "BatchNormalization" or made is None or made.op not in ("Conv", "ConvTranspose", "Gemm"):
            continue
        if len(node.inputs[0].outputs) == 1:
            yield _breach(node, f"BatchNormalization '{node.name}' reads {made.op} '{made.name}'")


def convolutions_hoisted(graph: gs.Graph) -> Iterator[Breach]:
    """No 1x1 convolution is the only reader of a Resize."""
    for node in graph.nodes:
        made = _maker(node, 0)
        if node.op != "Conv" or made is None or made.op != "Resize" or len(node.inputs[0].outputs) != 1:
            continue
        shape = node.inputs[1].shape
        if shape is not None and tuple(shape[2:]) == (1, 1):
            yield _breach(node, f"1x1 convolution '{node.name}' reads Resize '{made.name}'")


def _maker(node: gs.Node, at: int) -> gs.Node | None:
    """The node that writes an input; None for an input of the graph and constants."""
    return node.inputs[at].inputs[0] if len(node.inputs) > at and node.inputs[at].inputs else None


_FREE = frozenset({"Constant", "ConstantOfShape", "Range", "RandomNormal", "RandomUniform", "Bernoulli", "Multinomial"})
_RANDOM = frozenset({"RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial", "Dropout"})
_SMALL = 4096  # elements; FoldConstants takes a megabyte more or less
_LOWERINGS = frozenset(
    ("lower-adaptive-avg-pool", "lower-resize-argmax", "lower-resize-argmax-tiled", "lower-resize-argmax-cells",
     "lower-resize-argmax-pairwise")
)  # fmt: skip

INVARIANTS: Mapping[str, Invariant] = {
    # of graphs as they are read
    RECENT_OPSET: Invariant(f"the opset is {OLDEST_OPSET} or newer", recent_opset),
    SINGLE: Invariant("nothing is computed in float16", single_precision),
    PORTABLE: Invariant("no pass has rewritten the graph for one runtime yet", portable),
    "planar input": Invariant("no input is an image of bytes, whose channels come last", planar_input),
    # of what comes in and goes out
    "static shapes": Invariant("every size of every tensor is a number", static_shapes),
    "single image": Invariant("the batch is 1", single_image),
    "mask output": Invariant("the only output is the mask (N, H, W) of integers", mask_output),
    # of clean-up
    "constants folded": Invariant("no node computes a small value from constants alone", constants_folded),
    "identities removed": Invariant("no node returns its input whatever the sizes are", identities_removed),
    "lowerings merged": Invariant("equal nodes are one, at least those that lowering made", lowerings_merged),
    "pads merged": Invariant("no Pad reads a Pad that could be one with it", pads_merged),
    "batchnorms fused": Invariant("no BatchNormalization is left that weights could hold", batchnorms_fused),
    "convolutions hoisted": Invariant("no 1x1 convolution is above its Resize at a loss", convolutions_hoisted),
    # of the dialect and the mask
    "no segc dialect": Invariant("no op of the segc dialect is left", without()),
    **{f"no segc.{op}": Invariant(f"no segc.{op} is left", without(op)) for op in dialect.OPS},
    "pools recognized": Invariant("no adaptive pool is unrolled into slices"),
    "argmax folded": Invariant("each ArgMax stands as near to the logits as it can"),
    "thresholds folded": Invariant("no Sigmoid is compared with a constant"),
    # of a target's runtime
    **{f"no {op}": Invariant(f"no {op} is left", without_standard(op)) for op in LEGALIZED},
    "channel blocks filled": Invariant("no convolution reads a Concat that breaks blocks of channels"),
    "floor division legalized": Invariant("no integer Div is left that rounds otherwise in the runtime"),
    "top-k bounded": Invariant("no TopK takes more than the runtime bounds it to"),
    "uint16 mask widened": Invariant("the mask is not uint16"),
    "bytes widened": Invariant("bytes of the input are cast before anything moves them"),
    "arithmetic legalized": Invariant("only arithmetic that the runtime has"),
    "transposed convolutions legalized": Invariant("only ConvTranspose that the runtime has"),
    "vector products legalized": Invariant("no MatMul has an operand of one axis"),
    "resizes legalized": Invariant("only kinds of Resize to known sizes that the runtime has"),
    "dynamic resizes legalized": Invariant("only kinds of Resize to unknown sizes that the runtime has"),
    "types legalized": Invariant("integers and booleans move as int64"),
    "mask widened": Invariant("the mask is int64"),
    "zeros of reshapes dropped": Invariant("no Reshape has allowzero"),
    "opset lowered": Invariant("the opset is that of the runtime, or has no older form"),
    "logic legalized": Invariant("only logic that the runtime has"),
    "sums kept apart": Invariant("no Add of a convolution and its own input that the runtime fuses wrongly"),
    "top-k indices cast": Invariant("indices of TopK are cast before they are read"),
    "axes in order": Invariant("axes count from the front, lists of axes ascend", axes_in_order),
    "symmetric pads": Invariant("windows pad both ends of a side alike", symmetric_pads),
    "defaults written": Invariant("attributes that the runtime reads are written down"),
    "dimensions named": Invariant("unknown sizes of inputs have names"),
}

GIVEN = frozenset({RECENT_OPSET, SINGLE, PORTABLE, "planar input"})  # what graphs have as they are read
# What only makes graphs smaller or quicker: who chooses passes himself may do without.
CLEANED = frozenset({
    "constants folded", "identities removed", "lowerings merged", "pads merged", "batchnorms fused",
    "convolutions hoisted", "argmax folded", "thresholds folded", "pools recognized", "channel blocks filled",
})  # fmt: skip
# What a pass may break that...
REVEALED = frozenset({"argmax folded", "thresholds folded", "pools recognized"})  # ...brings nodes together
FORM_RULES = frozenset({"sums kept apart", "axes in order", "symmetric pads", "defaults written"})  # ...makes new nodes
NODE_RULES = FORM_RULES | {  # ...spells an op in many others
    "arithmetic legalized", "transposed convolutions legalized", "vector products legalized", "resizes legalized",
    "dynamic resizes legalized", "types legalized", "zeros of reshapes dropped", "logic legalized",
}  # fmt: skip
