"""Give both operands of an elementwise op the same rank, for runtimes that broadcast only tensors of one rank.

    Add(x, w), x of rank 4, w of rank 2 or 3   ->  Add(x, Unsqueeze(w, axes=[0, ...]))
    the same with a constant w                 ->  the constant with axes of size 1 in front

Exact: broadcasting adds the same axes. Numbers and vectors stay: runtimes that need this pass broadcast them right.

Must not fire: integers, which are sizes and indices; operands of equal rank; operands of rank 0 or 1.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from segc.graph.invariants import PORTABLE, SINGLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Builder, rewrite, standard
from segc.passes.support.operands import ARITHMETIC, lower_operand


class LegalizeOperandRanks(Pass):
    """Add leading axes of size 1 to operands of fewer axes."""

    name = "legalize-operand-ranks"
    algebra = "Add(x, w), w of fewer axes  ->  Add(x, Unsqueeze(w))"
    requires = frozenset({SINGLE})
    ensures = frozenset({"operand ranks equal"})
    invalidates = frozenset({PORTABLE, "axes in order"})

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each node where it stands."""
        sites = [n for n in standard(graph, *ARITHMETIC) if lower_operand(n) is not None]
        return rewrite(graph, sites, lift, PassResult())


def lift(b: Builder) -> gs.Tensor:
    """Build the op with an operand of more axes."""
    at = lower_operand(b.node)
    assert at is not None
    low, axes = b.node.inputs[at], len(b.node.inputs[1 - at].shape)
    missing = axes - len(low.shape)
    if isinstance(low, gs.Constant):
        lifted: gs.Tensor = b.const("operand", low.values.reshape((1,) * missing + low.values.shape))
    else:
        lifted = b.unsqueeze("operand", low, list(range(missing)))
    operands = [lifted if index == at else tensor for index, tensor in enumerate(b.node.inputs)]
    return b.op(b.node.op, "result", *operands)
