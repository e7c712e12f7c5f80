"""Expand PRelu behind a matrix product, for runtimes that fuse it into the product along the wrong axis.

    PRelu(MatMul(x, w), slopes)  ->  Relu(p) + slopes * Min(p, 0),  p = MatMul(x, w)

Also where elementwise ops stand between the two, which are fused as well. A runtime that takes a vector of slopes for
one per column of the product, as biases are, is silently wrong if there are as many columns as channels, and refuses
the engine otherwise. Exact: one of the two terms is always 0. Only -0 may become 0.

Must not fire: one slope for all; slopes that are computed, or not finite (0 times infinity is not a number).
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph.invariants import PORTABLE, SINGLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Builder, RewriteNotApplicable, rewrite, standard, typed
from segc.passes.support.products import behind_product


class LegalizeProductPRelu(Pass):
    """Expand PRelu that a runtime would fuse into a MatMul along the wrong axis."""

    name = "legalize-product-prelu"
    algebra = "PRelu(MatMul(x, w), slopes)  ->  Relu(p) + slopes * Min(p, 0)"
    requires = frozenset({SINGLE})
    ensures = frozenset({"no PRelu behind products"})
    invalidates = frozenset({PORTABLE})

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each node where it stands."""
        return rewrite(graph, [n for n in standard(graph, "PRelu") if behind_product(n)], expand, PassResult())


def expand(b: Builder) -> gs.Tensor:
    """Build the two terms. Raises RewriteNotApplicable."""
    x, slope = b.node.inputs
    typed(x)
    if not isinstance(slope, gs.Constant):
        raise RewriteNotApplicable("its slope is not constant")
    if not np.isfinite(slope.values).all():
        raise RewriteNotApplicable("a slope is not finite")
    below = b.op("Mul", "scaled", b.op("Min", "below", x, b.const("zero", 0, x.dtype)), slope)
    return b.op("Add", "bent", b.op("Relu", "above", x), below)
