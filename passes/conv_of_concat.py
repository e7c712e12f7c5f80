"""Convolve a few odd channels apart from those that fill blocks.

Conv(f(Concat(a, b)), W)  ->  Conv(f_a(a), W_a) + Conv(f_b(b), W_b)

f is what treats each channel by itself: BatchNormalization, PRelu, Relu, none or several. Runtimes keep the channels of
maps in blocks of 8 or 16. A Concat that adds three channels to 32 fits none: all are put in order and out of it again,
before f and behind it. CGNet gives its convolutions the image along that way, which takes a quarter of its time in
OpenVINO. Sums are taken in another order, so that only rounding differs.

Must not fire: without parts that fill blocks, or where the odd ones are more than a block; groups; weights or constants
of f that are computed; what is between is also used elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from segc.passes.base import Pass, PassResult
from segc.passes.build import Builder, Cannot, rewrite, standard
from segc.passes.edit import optional, protected
from segc.passes.joined_channels import maker

BLOCK = 16  # channels
BY_CHANNEL = ("BatchNormalization", "PRelu", "Relu")


class ConvOfConcat(Pass):
    """Split convolutions of a Concat whose parts do not all fill blocks of channels."""

    name = "conv-of-concat"
    algebra = "Conv(f(Concat(a, b)))  ->  Conv(f(a)) + Conv(f(b)), for a few channels b that fill no block of 16"

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each convolution where it stands."""
        keep = protected(graph)
        sites = [conv for conv in standard(graph, "Conv") if _joined(conv)]
        return rewrite(graph, sites, lambda b: _spelled(b, keep), PassResult())


def _between(conv: gs.Node) -> list[gs.Node]:
    """The nodes that treat each channel by itself before the convolution, the last first."""
    found, x = list[gs.Node](), conv.inputs[0]
    while (made := next((m for op in BY_CHANNEL if (m := maker(x, op))), None)) is not None:
        found.append(made)
        x = made.inputs[0]
    return found


def _joined(conv: gs.Node) -> gs.Node | None:
    """The Concat of channels, some of which fill blocks and some of which do not."""
    steps = _between(conv)
    made = maker(steps[-1].inputs[0] if steps else conv.inputs[0], "Concat")
    if made is None or made.attrs.get("axis") not in (1, -3) or len(made.inputs) < 2:
        return None
    widths = [tensor.shape[1] for tensor in made.inputs if tensor.shape is not None and len(tensor.shape) == 4]
    known = len(widths) == len(made.inputs) and all(isinstance(width, (int, np.integer)) for width in widths)
    odd = sum(width % BLOCK != 0 for width in widths) if known else 0
    return made if 0 < odd < len(widths) else None


def _spelled(b: Builder, keep: set[int]) -> gs.Tensor:
    conv, weights, steps = b.node, b.node.inputs[1], _between(b.node)
    joined = _joined(conv)
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
    full, odd = _parts(joined)
    if len(odd.channels) >= BLOCK:
        raise Cannot(f"{len(odd.channels)} channels of parts that fill no block are too many")
    bias = optional(conv, 2)
    sums = []
    for side, given in ((full, [] if bias is None else [bias]), (odd, [])):
        x = _treated(b, side, steps)
        mine = b.const(f"{side.role}_weights", weights.values[:, side.channels])
        sums.append(b.op("Conv", side.role, x, mine, *given, **conv.attrs))
    return b.op("Add", "whole", *sums)


@dataclass(frozen=True)
class _Side:
    """Inputs of the Concat that go together, and the places of their channels in it."""

    role: str
    tensors: list[gs.Tensor]
    channels: list[int]


def _parts(joined: gs.Node) -> tuple[_Side, _Side]:
    """What fills blocks, and the odd rest."""
    full, odd, at = _Side("full", [], []), _Side("odd", [], []), 0
    for tensor in joined.inputs:
        width = int(tensor.shape[1])
        side = odd if width % BLOCK else full
        side.tensors.append(tensor)
        side.channels.extend(range(at, at + width))
        at += width
    return full, odd


def _treated(b: Builder, side: _Side, steps: list[gs.Node]) -> gs.Tensor:
    """The steps again, the first first, with the constants of these channels."""
    x = side.tensors[0] if len(side.tensors) == 1 else b.op("Concat", f"{side.role}_joined", *side.tensors, axis=1)
    for at, step in enumerate(reversed(steps)):
        role = f"{side.role}_step{at}"
        constants = [b.const(f"{role}_{i}", _of(side, t.values)) for i, t in enumerate(step.inputs[1:])]
        x = b.op(step.op, role, x, *constants, **step.attrs)
    return x


def _of(side: _Side, values: np.ndarray) -> np.ndarray:
    """What belongs to these channels: of numbers (C,) or of slopes (C, 1, 1) or (1, C, 1, 1); one slope serves all."""
    axis = max(0, values.ndim - 3)
    return values if values.ndim == 0 or values.shape[axis] == 1 else values.take(side.channels, axis)
