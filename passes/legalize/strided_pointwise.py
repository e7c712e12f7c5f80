"""Take the stride out of a 1x1 Conv behind elementwise ops on a part, for runtimes that move it up and fail there.

    Conv(f(Split(x)), kernel 1, strides s)  ->  Conv(Slice(f(Split(x)), steps s), kernel 1)

A runtime that moves the stride of such a Conv above the elementwise ops f does not load the engine where the next
producer has several outputs. Exact: a 1x1 Conv reads each s-th cell only. Padding becomes a Pad before the Slice.

Must not fire: grouped convolutions and those that read a part directly, which load; auto_pad.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from segc.graph.invariants import PORTABLE, SINGLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Builder, rewrite, standard, text, typed

_END = 2**31 - 1


class LegalizeStridedPointwise(Pass):
    """Slice the input of a strided 1x1 Conv behind elementwise ops on a part."""

    name = "legalize-strided-pointwise"
    algebra = "Conv(f(Split(x)), kernel 1, strides s)  ->  Conv(Slice(f(Split(x)), steps s), kernel 1)"
    requires = frozenset({SINGLE})
    ensures = frozenset({"no strided pointwise Conv behind parts"})
    invalidates = frozenset({PORTABLE})

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each node where it stands."""
        return rewrite(graph, [n for n in standard(graph, "Conv") if moves_up(n)], lower, PassResult())


def moves_up(node: gs.Node) -> bool:
    """Whether the Conv's stride would be moved up to a node with several outputs."""
    kernel = node.inputs[1].shape
    strided = any(stride != 1 for stride in node.attrs.get("strides", ()))
    if not strided or kernel is None or any(side != 1 for side in kernel[2:]):
        return False
    if node.attrs.get("group", 1) != 1 or text(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return False
    first = next(iter(node.inputs[0].inputs), None)
    return first is not None and len(first.outputs) == 1 and _behind_parts(first)


def _behind_parts(last: gs.Node) -> bool:
    """Whether nodes that keep the shape lead from one with several outputs to `last`, which is one of them."""
    seen, waiting = set[int](), [last]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if len(node.outputs) > 1:
            return True
        shape = node.outputs[0].shape
        waiting += [
            producer for x in node.inputs for producer in x.inputs if x.shape == shape or len(producer.outputs) > 1
        ]
    return False


def lower(b: Builder) -> gs.Tensor:
    """Build Pad, Slice and Conv. Raises RewriteNotApplicable."""
    node, x = b.node, b.node.inputs[0]
    typed(x)
    attrs = dict(node.attrs)
    strides, pads = list(attrs.pop("strides")), list(attrs.pop("pads", ()))
    sides = len(strides)
    if any(pads) and (attrs.get("auto_pad", "NOTSET")) != "VALID":
        ends = [0, 0, *pads[:sides], 0, 0, *pads[sides:]]
        x = b.op("Pad", "padded", x, b.const("pads", ends), b.const("zero", 0, x.dtype), mode="constant")
    edges = [
        b.const("starts", [0] * sides), b.const("ends", [_END] * sides), b.const("axes", list(range(2, 2 + sides))),
        b.const("steps", strides),
    ]  # fmt: skip
    cut = b.op("Slice", "strided", x, *edges)
    return b.op("Conv", "pointwise", cut, *node.inputs[1:], **attrs)
