"""Give a convolution before a BatchNormalization weights of its own, for runtimes that fold the two in place.

    BatchNormalization(Conv(x, W)), Conv(z, W)  ->  BatchNormalization(Conv(x, W')), Conv(z, W)      W' a copy of W
    BatchNormalization(Conv(x, W), s, t, t, v)  ->  BatchNormalization(Conv(x, W), s, t, t', v)

A runtime that scales the weights where they lie changes them for their other readers, and one that frees the
constants of the BatchNormalization one by one frees a repeated one twice. `fuse-conv-batchnorm` leaves such weights,
because they would be stored twice. Exact. Cost: the copies.

Must not fire: weights that one node reads; convolutions without a BatchNormalization behind them.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from segc.graph.invariants import PORTABLE, SINGLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import standard
from segc.passes.support.edit import Names
from segc.passes.support.shared_weights import CONVOLUTIONS, at_risk


class LegalizeSharedWeights(Pass):
    """Copy constants that folding a BatchNormalization would change for others. Cost: the copies."""

    name = "legalize-shared-weights"
    algebra = "BN(Conv(x, W)), Conv(z, W)  ->  BN(Conv(x, W')), Conv(z, W)"
    requires = frozenset({SINGLE})
    ensures = frozenset({"folded weights owned"})
    invalidates = frozenset({PORTABLE})

    def run(self, graph: gs.Graph) -> PassResult:
        """Copy, node by node: the last reader keeps the constant."""
        result, names = PassResult(), Names(graph)
        for node in standard(graph, *CONVOLUTIONS, "BatchNormalization"):
            sites = at_risk(node)
            for at in sites:
                node.inputs[at] = names.constant(node.outputs[0], f"input{at}", node.inputs[at].values.copy())
            result.changes += bool(sites)
        return result
