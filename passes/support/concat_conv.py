"""Split a Conv over the inputs of the Concat that it reads; used by passes that move some inputs past the Conv."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from segc.passes.support.builder import Builder, RewriteNotApplicable


@dataclass(frozen=True)
class Part:
    """A tensor that fills channels [start, stop) of a convolution's input.

    resize: the Resize that made it, if that node is to move behind the convolution.
    """

    tensor: gs.Tensor
    start: int
    stop: int
    resize: gs.Node | None


def producer_of(tensor: gs.Tensor, op: str) -> gs.Node | None:
    """The node that writes the tensor, if it is this standard op."""
    producer = tensor.inputs[0] if tensor.inputs else None
    return producer if producer is not None and producer.op == op and producer.domain is None else None


def concat_inputs(conv: gs.Node) -> list[gs.Tensor]:
    """The inputs of the channel Concat that the convolution reads; without a Concat, the tensor it reads."""
    concat = producer_of(conv.inputs[0], "Concat")
    return list(concat.inputs) if concat is not None and concat.attrs.get("axis") in (1, -3) else [conv.inputs[0]]


def split_parts(conv: gs.Node, why_stays: Callable[[gs.Node, int], str | None]) -> list[Part]:
    """The parts of the convolution's input, in channel order.

    why_stays(resize, channels): the reason why a Resize must stay before the convolution, None if it may move. Raises
    RewriteNotApplicable if every Resize stays.
    """
    parts, reasons, start = list[Part](), list[str](), 0
    for tensor in concat_inputs(conv):
        width = tensor.shape[1] if tensor.shape is not None and len(tensor.shape) == 4 else None
        if not isinstance(width, (int, np.integer)):
            raise RewriteNotApplicable(f"the channels of '{tensor.name}' are unknown")
        resize = producer_of(tensor, "Resize")
        if resize is not None and (why := why_stays(resize, int(width))):
            reasons.append(why)
            resize = None
        parts.append(Part(tensor, start, start + int(width), resize))
        start += int(width)
    if all(part.resize is None for part in parts):
        raise RewriteNotApplicable(reasons[0])
    return parts


def conv_of_parts(b: Builder, parts: Sequence[Part], weights: np.ndarray, bias: gs.Tensor | None) -> gs.Variable:
    """Build the convolution of b.node over these parts of its input alone. weights: of the whole convolution."""
    x = parts[0].tensor if len(parts) == 1 else b.op("Concat", "rest", *(part.tensor for part in parts), axis=1)
    kept = np.concatenate([weights[:, part.start : part.stop] for part in parts], axis=1)
    biases = [] if bias is None else [bias]
    return b.op("Conv", "kept", x, b.const("kept_weights", kept), *biases, **b.node.attrs)
