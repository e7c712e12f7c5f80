"""Repeat operands of Max and Min, for runtimes that stop reading at an operand with no more axes than its number.

    Max(x, y), of rank 4  ->  Max(x, y, x, y, x)

Exact: the greatest of the same numbers.

Must not fire: where an operand has no more axes than its number, counted from 0; an unknown rank; integers.
"""

from __future__ import annotations

from itertools import cycle, islice

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph.invariants import PORTABLE, SINGLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import standard
from segc.passes.support.edit import rank
from segc.passes.support.operands import needs_more_operands


class LegalizeVariadicOperands(Pass):
    """Repeat the operands of Max and Min until there are more than axes, where the runtime needs it."""

    name = "legalize-variadic-operands"
    algebra = "Max(x, y), of n axes  ->  Max(x, y, x, ...), n + 1 operands"
    requires = frozenset({SINGLE})
    ensures = frozenset({"variadic operands repeated"})
    invalidates = frozenset({PORTABLE})

    def run(self, graph: gs.Graph) -> PassResult:
        """Edit the operands in place."""
        result = PassResult()
        for node in standard(graph, "Max", "Min"):
            if node.inputs[0].dtype is None or np.dtype(node.inputs[0].dtype).kind != "f":
                continue
            ranks = [axes for tensor in node.inputs if (axes := rank(tensor)) is not None]
            if len(ranks) < len(node.inputs):
                result.skip(node, "the rank of an operand is unknown")
            elif needs_more_operands(ranks):
                node.inputs = list(islice(cycle(list(node.inputs)), max(ranks) + 1))
                result.changes += 1
        return result
