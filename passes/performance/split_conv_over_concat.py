"""Convolve a few odd channels apart from those that fill blocks.

Conv(f(Concat(a, b)), W)  ->  Conv(f_a(a), W_a) + Conv(f_b(b), W_b)

f is what treats each channel by itself: BatchNormalization, PRelu, Relu, none or several. Runtimes keep the channels of
maps in blocks of 8 or 16. A Concat that adds three channels to 32 fits none: all are put in order and out of it again,
before f and behind it. CGNet gives its convolutions the image along that way, which takes a fifth of its time in ncnn.
Sums are taken in another order, so that only rounding differs.

Must not fire: without parts that fill blocks, or where the odd ones are more than a block; groups; weights or constants
of f that are computed; what is between is also used elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_graphsurgeon as gs

from segc.graph.invariants import PORTABLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Builder
from segc.passes.support.channel_blocks import Site, of_channels, rewrite_odd
from segc.passes.support.costs import CHANNEL_BLOCK
from segc.passes.support.edit import optional


class SplitConvOverConcat(Pass):
    """Split convolutions of a Concat whose parts do not all fill blocks of channels."""

    name = "split-conv-over-concat"
    algebra = "Conv(f(Concat(a, b)))  ->  Conv(f(a)) + Conv(f(b)), for a few channels b that fill no block of 16"
    requires = Pass.requires | {"lowerings merged", "identities removed", "batchnorms fused"}
    ensures = frozenset({"channel blocks filled"})
    invalidates = frozenset({PORTABLE, "batchnorms fused", "convolutions hoisted"})

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each convolution where it stands."""
        return rewrite_odd(graph, _spelled)


def _spelled(b: Builder, site: Site) -> gs.Tensor:
    full, odd = _parts(site)
    bias = optional(b.node, 2)
    sums = []
    for side, given in ((full, [] if bias is None else [bias]), (odd, [])):
        x = _treated(b, side, site.steps)
        mine = b.const(f"{side.role}_weights", site.weights.values[:, side.channels])
        sums.append(b.op("Conv", side.role, x, mine, *given, **b.node.attrs))
    return b.op("Add", "whole", *sums)


@dataclass(frozen=True)
class _Side:
    """Inputs of the Concat that go together, and the places of their channels in it."""

    role: str
    tensors: list[gs.Tensor]
    channels: list[int]


def _parts(site: Site) -> tuple[_Side, _Side]:
    """What fills blocks, and the odd rest."""
    full, odd, at = _Side("full", [], []), _Side("odd", [], []), 0
    for tensor, width in zip(site.joined.inputs, site.widths, strict=True):
        side = odd if width % CHANNEL_BLOCK else full
        side.tensors.append(tensor)
        side.channels.extend(range(at, at + width))
        at += width
    return full, odd


def _treated(b: Builder, side: _Side, steps: list[gs.Node]) -> gs.Tensor:
    """The steps again, with the constants of these channels."""
    x = side.tensors[0] if len(side.tensors) == 1 else b.op("Concat", f"{side.role}_joined", *side.tensors, axis=1)
    for at, step in enumerate(steps):
        role = f"{side.role}_step{at}"
        constants = [
            b.const(f"{role}_{i}", of_channels(t.values, side.channels)) for i, t in enumerate(step.inputs[1:])
        ]
        x = b.op(step.op, role, x, *constants, **step.attrs)
    return x
