"""Expand PRelu behind a matrix product, for runtimes that fuse it into the product along the wrong axis.

    PRelu(MatMul(x, w), slopes)  ->  Relu(p) + slopes * Min(p, 0),  p = MatMul(x, w)

Also where elementwise ops stand between the two, which are fused as well. A runtime that takes a vector of slopes for
one per column of the product, as biases are, is silently wrong if there are as many columns as channels, and refuses
the engine otherwise. Exact: one of the two terms is always 0. Only -0 may become 0.

Must not fire: one slope for all; slopes that are computed, or not finite (0 times infinity is not a number).
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from segc.graph.invariants import PORTABLE, SINGLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Builder, rewrite, standard
from segc.passes.support.prelu import constant_slopes, two_terms
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
    return two_terms(b, constant_slopes(b))
