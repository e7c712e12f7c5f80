"""Leave out allowzero of Reshape, which opsets below 14 do not have.

    Reshape<allowzero = 1>(x, sizes)  ->  Reshape(x, sizes)

With allowzero a size of 0 is 0, without it the size that x has there. So the two differ only where a size is 0, which
makes an empty tensor, and that only an empty x can become. Exact for every x that holds something.

Must not fire: for constant sizes with a 0 among them, and where x is known to be empty.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from segc.graph.invariants import FORM_RULES, PORTABLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import standard
from segc.passes.support.edit import ints


class DropAllowZero(Pass):
    """Remove the attribute from each Reshape of a tensor that is not empty."""

    name = "drop-allow-zero"
    algebra = "Reshape<allowzero = 1>(x, sizes)  ->  Reshape(x, sizes) for an x that holds something"
    ensures = frozenset({"zeros of reshapes dropped"})
    invalidates = FORM_RULES | {PORTABLE}

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each node in place."""
        result = PassResult()
        for node in standard(graph, "Reshape"):
            if not node.attrs.get("allowzero", 0):
                continue
            if 0 in (ints(node.inputs[1]) or ()) or 0 in (node.inputs[0].shape or ()):
                result.skip(node, "it makes an empty tensor")
                continue
            del node.attrs["allowzero"]
            result.changes += 1
        return result
