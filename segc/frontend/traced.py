"""A traced model."""

from __future__ import annotations

from dataclasses import dataclass

import onnx


@dataclass(frozen=True)
class Traced:
    """A traced model: input 'input' float32 (N, C, H, W), output 'logits'. notes: for the user, in full sentences."""

    model: onnx.ModelProto
    rewrites: tuple[str, ...]
    notes: tuple[str, ...] = ()
