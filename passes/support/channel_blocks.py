"""Convolutions that read a Concat of which some inputs, but not all, fill whole blocks of channels.

CPU runtimes store channels in blocks of CHANNEL_BLOCK. One input whose channels are no multiple of the block shifts the
channels of all inputs after it, and the runtime copies the map. Passes in passes/performance/ remove these copies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from segc.passes.base import PassResult
from segc.passes.support.builder import Builder, RewriteNotApplicable, rewrite, standard
from segc.passes.support.concat_conv import producer_of
from segc.passes.support.costs import CHANNEL_BLOCK
from segc.passes.support.edit import protected

BY_CHANNEL = ("BatchNormalization", "PRelu", "Relu")


@dataclass(frozen=True)
class Site:
    """Conv(f(Concat(...))), where f treats each channel separately. steps: the nodes of f in execution order."""

    concat: gs.Node
    steps: list[gs.Node]
    weights: gs.Constant

    @property
    def widths(self) -> list[int]:
        """The number of channels of each input of the Concat."""
        return [int(tensor.shape[1]) for tensor in self.concat.inputs]


def rewrite_mixed_concats(graph: gs.Graph, build: Callable[[Builder, Site], gs.Tensor]) -> PassResult:
    """Replace each convolution for which `site_of` finds a site by the nodes that `build` adds, see `rewrite`."""
    protected_ids = protected(graph)
    sites = [conv for conv in standard(graph, "Conv") if mixed_concat(conv)]
    return rewrite(graph, sites, lambda b: build(b, site_of(b.node, protected_ids)), PassResult())


def mixed_concat(conv: gs.Node) -> gs.Node | None:
    """The Concat of channels that the convolution reads, if some of its inputs fill whole blocks and some do not."""
    steps = _channelwise_steps(conv)
    concat = producer_of(steps[0].inputs[0] if steps else conv.inputs[0], "Concat")
    if concat is None or concat.attrs.get("axis") not in (1, -3) or len(concat.inputs) < 2:
        return None
    widths = [tensor.shape[1] for tensor in concat.inputs if tensor.shape is not None and len(tensor.shape) == 4]
    known = len(widths) == len(concat.inputs) and all(isinstance(width, (int, np.integer)) for width in widths)
    partial = sum(width % CHANNEL_BLOCK != 0 for width in widths) if known else 0
    return concat if 0 < partial < len(widths) else None


def site_of(conv: gs.Node, protected_ids: set[int]) -> Site:
    """The site of a convolution for which `mixed_concat` finds a Concat. protected_ids: see `protected`.

    Raises RewriteNotApplicable if the channels cannot be rearranged, or if the inputs that fill no whole block have a
    block of channels or more together.
    """
    concat, steps, weights = mixed_concat(conv), _channelwise_steps(conv), conv.inputs[1]
    assert concat is not None
    if not isinstance(weights, gs.Constant) or conv.attrs.get("group", 1) != 1:
        raise RewriteNotApplicable("its weights are computed, or it has groups")
    for tensor in [concat.outputs[0], *(step.outputs[0] for step in steps)]:
        if id(tensor) in protected_ids or len(tensor.outputs) != 1:
            raise RewriteNotApplicable(f"'{tensor.name}' is also used elsewhere")
    for step in steps:
        if not all(isinstance(t, gs.Constant) for t in step.inputs[1:]) or step.attrs.get("training_mode", 0):
            raise RewriteNotApplicable(f"'{step.name}' has computed parameters or is in training mode")
        if step.op == "PRelu" and len(step.inputs[1].shape) in (1, 2) and step.inputs[1].shape[-1] != 1:
            raise RewriteNotApplicable(f"the slopes of '{step.name}' are per column, not per channel")
    site = Site(concat, steps, weights)
    if (partial := sum(width for width in site.widths if width % CHANNEL_BLOCK)) >= CHANNEL_BLOCK:
        raise RewriteNotApplicable(
            f"the inputs that fill no whole block have {partial} channels; the rewrite pays below {CHANNEL_BLOCK}"
        )
    return site


def _channelwise_steps(conv: gs.Node) -> list[gs.Node]:
    """The nodes before the convolution that treat each channel separately, in execution order."""
    steps, x = list[gs.Node](), conv.inputs[0]
    while (step := next((p for op in BY_CHANNEL if (p := producer_of(x, op))), None)) is not None:
        steps.insert(0, step)
        x = step.inputs[0]
    return steps


def take_channels(values: np.ndarray, channels: Sequence[int]) -> np.ndarray:
    """The parameters of these channels, from values (C,), (C, 1, 1) or (1, C, 1, 1); a single value serves all."""
    axis = max(0, values.ndim - 3)
    return values if values.ndim == 0 or values.shape[axis] == 1 else values.take(channels, axis)
