"""Convolutions of a Concat whose channels do not fill blocks: shared by passes that mend that in one way or another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from segc.passes.base import PassResult
from segc.passes.support.builder import Builder, Cannot, rewrite, standard
from segc.passes.support.concat_conv import maker
from segc.passes.support.costs import CHANNEL_BLOCK
from segc.passes.support.edit import protected

BY_CHANNEL = ("BatchNormalization", "PRelu", "Relu")


@dataclass(frozen=True)
class Site:
    """Conv(f(Concat(...))). steps: the nodes of f, the first first."""

    concat: gs.Node
    steps: list[gs.Node]
    weights: gs.Constant

    @property
    def widths(self) -> list[int]:
        """Channels of each input of the Concat."""
        return [int(tensor.shape[1]) for tensor in self.concat.inputs]


def rewrite_odd(graph: gs.Graph, spell: Callable[[Builder, Site], gs.Tensor]) -> PassResult:
    """Replace each such convolution whose odd channels are less than a block, and whose channels can be told apart."""
    keep = protected(graph)
    sites = [conv for conv in standard(graph, "Conv") if joins_odd(conv)]
    return rewrite(graph, sites, lambda b: spell(b, site_of(b.node, keep)), PassResult())


def joins_odd(conv: gs.Node) -> gs.Node | None:
    """The Concat of channels that it reads, where some of the inputs fill blocks and some do not."""
    steps = _between(conv)
    made = maker(steps[0].inputs[0] if steps else conv.inputs[0], "Concat")
    if made is None or made.attrs.get("axis") not in (1, -3) or len(made.inputs) < 2:
        return None
    widths = [tensor.shape[1] for tensor in made.inputs if tensor.shape is not None and len(tensor.shape) == 4]
    known = len(widths) == len(made.inputs) and all(isinstance(width, (int, np.integer)) for width in widths)
    odd = sum(width % CHANNEL_BLOCK != 0 for width in widths) if known else 0
    return made if 0 < odd < len(widths) else None


def site_of(conv: gs.Node, keep: set[int]) -> Site:
    """A convolution for which `joins_odd`; keep: see `protected`. Raises Cannot where its channels must stay."""
    joined, steps, weights = joins_odd(conv), _between(conv), conv.inputs[1]
    assert joined is not None
    if not isinstance(weights, gs.Constant) or conv.attrs.get("group", 1) != 1:
        raise Cannot("its weights are computed, or it has groups")
    for tensor in [joined.outputs[0], *(step.outputs[0] for step in steps)]:
        if id(tensor) in keep or len(tensor.outputs) != 1:
            raise Cannot(f"'{tensor.name}' is also used elsewhere")
    for step in steps:
        if not all(isinstance(t, gs.Constant) for t in step.inputs[1:]) or step.attrs.get("training_mode", 0):
            raise Cannot(f"constants of '{step.name}' are computed")
        if step.op == "PRelu" and len(step.inputs[1].shape) in (1, 2) and step.inputs[1].shape[-1] != 1:
            raise Cannot(f"the slopes of '{step.name}' lie along rows")
    site = Site(joined, steps, weights)
    if (odd := sum(width for width in site.widths if width % CHANNEL_BLOCK)) >= CHANNEL_BLOCK:
        raise Cannot(f"{odd} channels of parts that fill no block are too many")
    return site


def _between(conv: gs.Node) -> list[gs.Node]:
    """What treats each channel by itself before the convolution, the first first."""
    found, x = list[gs.Node](), conv.inputs[0]
    while (made := next((m for op in BY_CHANNEL if (m := maker(x, op))), None)) is not None:
        found.insert(0, made)
        x = made.inputs[0]
    return found


def of_channels(values: np.ndarray, channels: Sequence[int]) -> np.ndarray:
    """What belongs to these channels: of numbers (C,) or of slopes (C, 1, 1) or (1, C, 1, 1); one slope serves all."""
    axis = max(0, values.ndim - 3)
    return values if values.ndim == 0 or values.shape[axis] == 1 else values.take(channels, axis)
