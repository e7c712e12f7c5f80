"""Give MatMul operands of at least two axes.

    MatMul(v, b)  ->  Squeeze(MatMul(Unsqueeze(v, 0), b), next to last axis)      v of one axis
    MatMul(a, v)  ->  Squeeze(MatMul(a, Unsqueeze(v, 1)), last axis)

Exact: ONNX defines these products so.

Must not fire: an unknown rank.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from segc.graph.invariants import FORM_RULES, PORTABLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Builder, rewrite, standard, typed
from segc.passes.support.edit import rank


class LegalizeVectorProducts(Pass):
    """Rewrite each MatMul with an operand of one axis."""

    name = "legalize-vector-products"
    algebra = "MatMul(v, b)  ->  Squeeze(MatMul(Unsqueeze(v), b)) for a v of one axis; likewise for the right operand"
    ensures = frozenset({"vector products legalized"})
    invalidates = FORM_RULES | {PORTABLE}

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each node where it stands."""
        sites = [n for n in standard(graph, "MatMul") if any(rank(t) in (None, 1) for t in n.inputs)]
        return rewrite(graph, sites, lower, PassResult())


def lower(b: Builder) -> gs.Tensor:
    """Build the nodes that replace one MatMul. Raises RewriteNotApplicable."""
    left, right = b.node.inputs
    typed(left, right)
    row, column = len(left.shape) == 1, len(right.shape) == 1
    pair = b.unsqueeze("row", left, [0]) if row else left, b.unsqueeze("column", right, [1]) if column else right
    product = b.op("MatMul", "product", *pair)
    dims = len(product.shape)
    return b.squeeze("vector", product, [dims - 2] * row + [dims - 1] * column)
