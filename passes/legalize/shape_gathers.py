"""Gather a size by a number, not by a vector, for runtimes that compute shapes in a pass of their own.

    Gather(shape, [i])  ->  Unsqueeze(Gather(shape, i), axes=[0])

Exact: the same vector of one element.

Must not fire: data that is not a computed vector of int64; an index that is computed, or a number already; several
indices.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph.invariants import PORTABLE, SINGLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Builder, rewrite, standard
from segc.passes.support.edit import ints
from segc.passes.support.operands import takes_one_by_vector


class LegalizeShapeGathers(Pass):
    """Gather single elements of computed int64 vectors by a scalar index."""

    name = "legalize-shape-gathers"
    algebra = "Gather(shape, [i])  ->  Unsqueeze(Gather(shape, i))"
    requires = frozenset({SINGLE})
    ensures = frozenset({"sizes gathered by numbers"})
    invalidates = frozenset({PORTABLE, "axes in order"})

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each node where it stands."""
        return rewrite(graph, [n for n in standard(graph, "Gather") if takes_one_by_vector(n)], gather, PassResult())


def gather(b: Builder) -> gs.Tensor:
    """Build the two nodes."""
    index = (ints(b.node.inputs[1]) or [0])[0]
    size = b.op("Gather", "size", b.node.inputs[0], b.const("index", index, np.int64), axis=0)
    return b.unsqueeze("sizes", size, [0])
