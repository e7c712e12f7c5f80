"""Pad the inputs of a Concat before a convolution with zero channels up to whole channel blocks.

Conv(f(Concat(a, b)), W)  ->  Conv(f(Concat(a, Pad(b))), W with zeros)

f: any number of BatchNormalization, PRelu and Relu, which treat each channel separately; the new channels stay zero.
OpenVINO stores the channels of maps in blocks of 16. A Concat of 32 and 3 channels does not fill its blocks: OpenVINO
reorders all channels before it and back after it, which takes a fifth of CGNet's time. With 13 more zero channels there
is nothing to reorder. Exact: the convolution adds zeros, and OpenVINO adds the other products in the same order as
before, so CGNet's numbers are the same bit by bit. (`split-conv-over-concat` saves more, but adds in another order.)

Must not fire: no input fills its blocks, or the unaligned inputs have a block of channels or more; groups; computed
weights or constants of f; intermediate results that are also used elsewhere.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph.invariants import PORTABLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Builder, RewriteNotApplicable
from segc.passes.support.channel_blocks import Site, rewrite_mixed_concats, take_channels
from segc.passes.support.costs import CHANNEL_BLOCK
from segc.passes.support.edit import optional

ZERO_CHANNEL = -1  # stands for a new channel of zeros
VARIANCE = 4  # the input of BatchNormalization that must not be 0


class PadChannelsToBlock(Pass):
    """Pad the unaligned inputs of a Concat before a convolution to whole blocks of channels."""

    name = "pad-channels-to-block"
    algebra = (
        "Conv(f(Concat(a, b)), W)  ->  Conv(f(Concat(a, Pad(b))), W'), for channels b that do not fill blocks of 16"
    )
    requires = Pass.requires | {"lowerings merged", "identities removed", "batchnorms fused"}
    ensures = frozenset({"channel blocks filled"})
    invalidates = frozenset({PORTABLE, "convolutions hoisted"})

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each convolution where it stands."""
        return rewrite_mixed_concats(graph, _build)


def _build(b: Builder, site: Site) -> gs.Tensor:
    if b.opset < 11:
        raise RewriteNotApplicable(f"Pad of opset {b.opset} takes its pads as attributes")
    parts, old_channels, start = list[gs.Tensor](), list[int](), 0
    for i, (tensor, width) in enumerate(zip(site.concat.inputs, site.widths, strict=True)):
        if new := -width % CHANNEL_BLOCK:
            tensor = b.op("Pad", f"wide{i}", tensor, b.const(f"pads{i}", [0, 0, 0, 0, 0, new, 0, 0]))
        parts.append(tensor)
        old_channels += [*range(start, start + width), *[ZERO_CHANNEL] * new]
        start += width
    x: gs.Tensor = b.op("Concat", "joined", *parts, axis=1)
    for number, step in enumerate(site.steps):
        role, constants = f"step{number}", list[gs.Tensor]()
        for i, t in enumerate(step.inputs[1:], 1):
            new_number = float(step.op == "BatchNormalization" and i == VARIANCE)
            constants.append(b.const(f"{role}_{i}", _padded_channels(t.values, old_channels, new_number)))
        x = b.op(step.op, role, x, *constants, **step.attrs)
    weights = b.const(
        "weights",
        np.where(np.array(old_channels)[:, None, None] == ZERO_CHANNEL, 0, site.weights.values[:, old_channels]),
    )
    bias = optional(b.node, 2)
    return b.op("Conv", "whole", x, weights, *([] if bias is None else [bias]), **b.node.attrs)


def _padded_channels(values: np.ndarray, old_channels: list[int], new: float) -> np.ndarray:
    """The values of these channels, and `new` for zero channels."""
    chosen = take_channels(values, old_channels).copy()
    if chosen.ndim and chosen.shape[max(0, chosen.ndim - 3)] == len(old_channels):
        chosen[(..., np.array(old_channels) == ZERO_CHANNEL, *(slice(None),) * min(2, chosen.ndim - 1))] = new
    return chosen
