"""Give an elementwise op two different operands, for runtimes that write the result over an operand.

    Mul(a, a)  ->  Mul(a, a * 1)        and Add, Sub, Div

A runtime that reuses the memory of the operand it reads last takes it from both operands if they are one tensor.
Exact: a * 1 is a, for every float and integer.

Must not fire: an operand that is an input of the graph or a constant, whose memory is not reused.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from segc.graph.invariants import PORTABLE, SINGLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Builder, rewrite, standard, typed
from segc.passes.support.operands import ARITHMETIC, is_repeated


class LegalizeRepeatedOperands(Pass):
    """Copy one of two operands that are the same computed tensor."""

    name = "legalize-repeated-operands"
    algebra = "Mul(a, a)  ->  Mul(a, a * 1)"
    requires = frozenset({SINGLE})
    ensures = frozenset({"operands distinct"})
    invalidates = frozenset({PORTABLE})

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each node where it stands."""
        return rewrite(graph, [n for n in standard(graph, *ARITHMETIC) if is_repeated(n)], copy, PassResult())


def copy(b: Builder) -> gs.Tensor:
    """Build the op with a copy as second operand."""
    x = b.node.inputs[0]
    typed(x)
    return b.op(b.node.op, "result", x, b.op("Mul", "copy", x, b.const("one", 1, x.dtype)))
