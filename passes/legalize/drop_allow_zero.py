"""Drop the attribute allowzero of Reshape, which opsets below 14 do not have.

    Reshape<allowzero = 1>(x, sizes)  ->  Reshape(x, sizes)

With allowzero a size of 0 means 0, without it the size of x at that position. The two differ only if a size is 0, which
makes an empty tensor, possible only for an empty x. Exact for every x that is not empty.

Must not fire: constant sizes that contain 0; an x that is known to be empty.
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
    algebra = "Reshape<allowzero = 1>(x, sizes)  ->  Reshape(x, sizes) for an x that is not empty"
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
