"""PRelu as arithmetic."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from segc.passes.support.builder import Builder, RewriteNotApplicable, typed


def constant_slopes(b: Builder) -> gs.Constant:
    """The slopes of the PRelu that is being rewritten. Raises RewriteNotApplicable unless they are known and finite."""
    x, slopes = b.node.inputs
    typed(x)
    if not isinstance(slopes, gs.Constant):
        raise RewriteNotApplicable("its slope is not constant")
    if not np.isfinite(slopes.values).all():
        raise RewriteNotApplicable("a slope is not finite")
    return slopes


def two_terms(b: Builder, slopes: gs.Tensor) -> gs.Tensor:
    """Relu(x) + slopes * Min(x, 0): for every slope, and exact where x is finite."""
    x = b.node.inputs[0]
    below = b.op("Mul", "scaled", b.op("Min", "below", x, b.const("zero", 0, x.dtype)), slopes)
    return b.op("Add", "bent", b.op("Relu", "above", x), below)
