"""Split a convolution over the inputs of its Concat: those that fill channel blocks, and the rest.

Conv(f(Concat(a, b)), W)  ->  Conv(f_a(a), W_a) + Conv(f_b(b), W_b)

f: any number of BatchNormalization, PRelu and Relu, which treat each channel separately. Runtimes store the channels of
maps in blocks of 8 or 16. A Concat of 32 and 3 channels does not fill its blocks: all channels are reordered before f
and back after it. CGNet feeds the image to its convolutions that way, which takes a fifth of its time in ncnn. Only
rounding differs, since the sums are added in another order.

Must not fire: no input fills its blocks, or the unaligned inputs have a block of channels or more; groups; computed
weights or constants of f; intermediate results that are also used elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_graphsurgeon as gs

from segc.graph.invariants import PORTABLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Builder
from segc.passes.support.channel_blocks import Site, rewrite_mixed_concats, take_channels
from segc.passes.support.costs import CHANNEL_BLOCK
from segc.passes.support.edit import optional


class SplitConvOverConcat(Pass):
    """Split convolutions of a Concat whose inputs do not all fill blocks of channels."""

    name = "split-conv-over-concat"
    algebra = "Conv(f(Concat(a, b)))  ->  Conv(f(a)) + Conv(f(b)), for a few channels b that do not fill a block of 16"
    requires = Pass.requires | {"lowerings merged", "identities removed", "batchnorms fused"}
    ensures = frozenset({"channel blocks filled"})
    invalidates = frozenset({PORTABLE, "batchnorms fused", "convolutions hoisted"})

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each convolution where it stands."""
        return rewrite_mixed_concats(graph, _build)


def _build(b: Builder, site: Site) -> gs.Tensor:
    aligned, unaligned = _split_inputs(site)
    bias = optional(b.node, 2)
    convolutions = []
    for group, bias_inputs in ((aligned, [] if bias is None else [bias]), (unaligned, [])):
        x = _apply_steps(b, group, site.steps)
        weights = b.const(f"{group.role}_weights", site.weights.values[:, group.channels])
        convolutions.append(b.op("Conv", group.role, x, weights, *bias_inputs, **b.node.attrs))
    return b.op("Add", "whole", *convolutions)


@dataclass(frozen=True)
class _Group:
    """Inputs of the Concat that are convolved together, and the numbers of their channels in it."""

    role: str
    tensors: list[gs.Tensor]
    channels: list[int]


def _split_inputs(site: Site) -> tuple[_Group, _Group]:
    """The inputs whose channels fill blocks, and the others."""
    aligned, unaligned, start = _Group("full", [], []), _Group("odd", [], []), 0
    for tensor, width in zip(site.concat.inputs, site.widths, strict=True):
        group = unaligned if width % CHANNEL_BLOCK else aligned
        group.tensors.append(tensor)
        group.channels.extend(range(start, start + width))
        start += width
    return aligned, unaligned


def _apply_steps(b: Builder, group: _Group, steps: list[gs.Node]) -> gs.Tensor:
    """Apply f to a group of inputs, with the constants of its channels."""
    x = group.tensors[0] if len(group.tensors) == 1 else b.op("Concat", f"{group.role}_joined", *group.tensors, axis=1)
    for number, step in enumerate(steps):
        role = f"{group.role}_step{number}"
        constants = [
            b.const(f"{role}_{i}", take_channels(t.values, group.channels)) for i, t in enumerate(step.inputs[1:])
        ]
        x = b.op(step.op, role, x, *constants, **step.attrs)
    return x
