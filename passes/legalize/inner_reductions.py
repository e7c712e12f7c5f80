"""Move reduced axes to the end, for runtimes that reduce other axes wrongly for some sizes behind them.

    ReduceSum(x), axes 1 of 4  ->  Transpose(ReduceSum(Transpose(x), axes 3))        and ReduceMean, ReduceMin

A kernel that adds rows of the axes behind the reduced ones handles them in blocks, and its code for what remains of a
row may be wrong: PPLNN's gives zeros if 25 to 31 numbers of 32 remain (13 to 15 of 16 without AVX). With the reduced
axes at the end there are no rows. Exact but for the order of the sum.

Must not fire: reductions of the last axes, or of integers; sizes behind the reduced axes that are known to be right.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from segc.graph.invariants import PORTABLE, SINGLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Builder, RewriteNotApplicable, rewrite, standard
from segc.passes.support.edit import rank
from segc.passes.support.reductions import BLOCKED, axes_of, blocks_break


class LegalizeInnerReductions(Pass):
    """Transpose before and after a reduction that the blocks of a kernel break."""

    name = "legalize-inner-reductions"
    algebra = "ReduceSum(x, inner axes)  ->  Transpose(ReduceSum(Transpose(x), last axes))"
    requires = frozenset({SINGLE})
    ensures = frozenset({"last axes reduced"})
    invalidates = frozenset({PORTABLE})

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each node where it stands."""
        return rewrite(graph, [n for n in standard(graph, *BLOCKED) if blocks_break(n)], last, PassResult())


def last(b: Builder) -> gs.Tensor:
    """Build the reduction of the last axes."""
    node, count = b.node, rank(b.node.inputs[0])
    if count is None:
        raise RewriteNotApplicable("the rank of its input is unknown")
    axes = axes_of(node, count)
    kept = [axis for axis in range(count) if axis not in axes]
    order, keepdims = [*kept, *axes], bool(node.attrs.get("keepdims", 1))
    moved = b.transpose("moved", node.inputs[0], order)
    total = b.reduce(node.op, "reduced" if keepdims else "result", moved, list(range(len(kept), count)), keepdims)
    return b.transpose("result", total, [order.index(axis) for axis in range(count)]) if keepdims else total
