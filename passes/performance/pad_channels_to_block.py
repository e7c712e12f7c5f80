"""Fill blocks of channels with zeros.

Conv(f(Concat(a, b)), W)  ->  Conv(f(Concat(a, Pad(b))), W with zeros)

f is what treats each channel by itself: BatchNormalization, PRelu, Relu, none or several; it leaves the new channels
zero. OpenVINO keeps the channels of maps in blocks of 16. A Concat that adds three channels to 32 fits none: all are
put in order and out of it again, which takes a fifth of CGNet's time. With 13 channels of zeros more there is nothing
to put in order. Exact: the convolution adds zeros, and OpenVINO the other products in the order it had, so that CGNet's
numbers stay bit for bit. (`split-conv-over-concat` saves more, and adds in another order.)

Must not fire: without parts that fill blocks, or where the odd ones are more than a block; groups; weights or constants
of f that are computed; what is between is also used elsewhere.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph.invariants import PORTABLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Builder, Cannot
from segc.passes.support.channel_blocks import Site, of_channels, rewrite_odd
from segc.passes.support.costs import CHANNEL_BLOCK
from segc.passes.support.edit import optional

NEW = -1  # the place of a channel of zeros
VARIANCE = 4  # the input of BatchNormalization that must not be 0


class PadChannelsToBlock(Pass):
    """Widen the odd inputs of a Concat before a convolution to whole blocks of channels."""

    name = "pad-channels-to-block"
    algebra = "Conv(f(Concat(a, b)), W)  ->  Conv(f(Concat(a, Pad(b))), W'), for channels b that fill no block of 16"
    requires = Pass.requires | {"lowerings merged", "identities removed", "batchnorms fused"}
    ensures = frozenset({"channel blocks filled"})
    invalidates = frozenset({PORTABLE, "convolutions hoisted"})

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each convolution where it stands."""
        return rewrite_odd(graph, _spelled)


def _spelled(b: Builder, site: Site) -> gs.Tensor:
    if b.opset < 11:
        raise Cannot("Pad has its numbers as attributes in this opset")
    parts, places, at = list[gs.Tensor](), list[int](), 0
    for i, (tensor, width) in enumerate(zip(site.joined.inputs, site.widths, strict=True)):
        if new := -width % CHANNEL_BLOCK:
            tensor = b.op("Pad", f"wide{i}", tensor, b.const(f"pads{i}", [0, 0, 0, 0, 0, new, 0, 0]))
        parts.append(tensor)
        places += [*range(at, at + width), *[NEW] * new]
        at += width
    x: gs.Tensor = b.op("Concat", "joined", *parts, axis=1)
    for at, step in enumerate(site.steps):
        role, constants = f"step{at}", list[gs.Tensor]()
        for i, t in enumerate(step.inputs[1:], 1):
            new_number = float(step.op == "BatchNormalization" and i == VARIANCE)
            constants.append(b.const(f"{role}_{i}", _filled(t.values, places, new_number)))
        x = b.op(step.op, role, x, *constants, **step.attrs)
    weights = b.const("weights", np.where(np.array(places)[:, None, None] == NEW, 0, site.weights.values[:, places]))
    bias = optional(b.node, 2)
    return b.op("Conv", "whole", x, weights, *([] if bias is None else [bias]), **b.node.attrs)


def _filled(values: np.ndarray, places: list[int], new: float) -> np.ndarray:
    """The numbers of these channels, and `new` for those of zeros."""
    chosen = of_channels(values, places).copy()
    if chosen.ndim and chosen.shape[max(0, chosen.ndim - 3)] == len(places):
        chosen[(..., np.array(places) == NEW, *(slice(None),) * min(2, chosen.ndim - 1))] = new
    return chosen
