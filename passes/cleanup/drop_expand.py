"""Drop an Expand whose readers broadcast by themselves.

    Div(y, Expand(x))  ->  Div(y, x)    where y has the shape of Expand(x)

PyTorch exports `normalize` with such a division. Exact: elementwise ops broadcast as Expand does, and y alone gives the
result its shape.

Must not fire: where no other operand is known to have exactly that shape, by number or by symbol: the result would
shrink.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from segc.graph.invariants import PORTABLE, REVEALED
from segc.passes.base import Pass, PassResult
from segc.passes.support.edit import protected, prune, same_symbols

ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Pow", "Mod", "Max", "Min", "Sum", "Mean")
LOGIC = ("And", "Or", "Xor", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Where")
BROADCASTING = frozenset({*ARITHMETIC, *LOGIC})


class DropExpand(Pass):
    """Drop an Expand before ops that broadcast. Cost: one walk over the nodes."""

    name = "drop-expand"
    algebra = "Div(y, Expand(x))  ->  Div(y, x), where y has the shape of Expand(x)"
    requires = Pass.requires | {PORTABLE, "constants folded"}
    invalidates = REVEALED

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each reader on its own; the Expand is removed with its last reader."""
        result, protected_ids = PassResult(), protected(graph)
        for node in [n for n in graph.nodes if n.op == "Expand" and n.domain is None]:
            expanded = node.outputs[0]
            for reader in list({id(r): r for r in expanded.outputs}.values()):
                if reader.op not in BROADCASTING or reader.domain is not None:
                    continue
                if not any(other is not expanded and same_symbols(other, expanded) for other in reader.inputs):
                    result.skip(reader, "no other operand is known to have the shape of the Expand")
                    continue
                reader.inputs = [node.inputs[0] if operand is expanded else operand for operand in reader.inputs]
                result.changes += 1
            prune(graph, node, protected_ids)
        return result
