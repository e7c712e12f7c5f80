"""What a convolution reads side by side, and its convolution of a selection: shared by passes that take some out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from segc.passes.support.builder import Builder, Cannot


@dataclass(frozen=True)
class Part:
    """Channels [start, stop) of what a convolution reads. resize: what enlarged it, if that is to come later."""

    tensor: gs.Tensor
    start: int
    stop: int
    resize: gs.Node | None


def maker(tensor: gs.Tensor, op: str) -> gs.Node | None:
    """The standard node of this kind that makes the tensor."""
    made = tensor.inputs[0] if tensor.inputs else None
    return made if made is not None and made.op == op and made.domain is None else None


def tensors_of(conv: gs.Node) -> list[gs.Tensor]:
    """The inputs of the Concat of channels that the convolution reads, or the one tensor it reads."""
    joined = maker(conv.inputs[0], "Concat")
    return list(joined.inputs) if joined is not None and joined.attrs.get("axis") in (1, -3) else [conv.inputs[0]]


def cut(conv: gs.Node, why_stays: Callable[[gs.Node, int], str | None]) -> list[Part]:
    """All parts; `why_stays(resize, channels)` says which enlarged ones stay. Raises Cannot where all do."""
    found, reasons, at = list[Part](), list[str](), 0
    for tensor in tensors_of(conv):
        width = tensor.shape[1] if tensor.shape is not None and len(tensor.shape) == 4 else None
        if not isinstance(width, (int, np.integer)):
            raise Cannot(f"the channels of '{tensor.name}' are unknown")
        resize = maker(tensor, "Resize")
        if resize is not None and (why := why_stays(resize, int(width))):
            reasons.append(why)
            resize = None
        found.append(Part(tensor, at, at + int(width), resize))
        at += int(width)
    if all(part.resize is None for part in found):
        raise Cannot(reasons[0])
    return found


def convolved(b: Builder, stay: Sequence[Part], weights: np.ndarray, bias: gs.Tensor | None) -> gs.Variable:
    """The convolution at b.node of these parts alone."""
    x = stay[0].tensor if len(stay) == 1 else b.op("Concat", "rest", *(part.tensor for part in stay), axis=1)
    kept = np.concatenate([weights[:, part.start : part.stop] for part in stay], axis=1)
    given = [] if bias is None else [bias]
    return b.op("Conv", "kept", x, b.const("kept_weights", kept), *given, **b.node.attrs)
