"""Give a constant in shape arithmetic one element for each size, for runtimes that do not broadcast there.

    Mul(sizes, [2]), n sizes  ->  Mul(sizes, [2, ..., 2])        and Add, Sub, Div

Exact: broadcasting repeats the same number.

Must not fire: floats; a vector of one element or of unknown length; a constant of several elements.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph.invariants import PORTABLE, SINGLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Builder, rewrite, standard
from segc.passes.support.operands import ARITHMETIC, short_constant


class LegalizeShapeConstants(Pass):
    """Repeat single numbers that computed int64 vectors are combined with."""

    name = "legalize-shape-constants"
    algebra = "Mul(sizes, [k])  ->  Mul(sizes, [k, ..., k])"
    requires = frozenset({SINGLE})
    ensures = frozenset({"shape constants repeated"})
    invalidates = frozenset({PORTABLE})

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each node where it stands."""
        sites = [n for n in standard(graph, *ARITHMETIC) if short_constant(n) is not None]
        return rewrite(graph, sites, repeat, PassResult())


def repeat(b: Builder) -> gs.Tensor:
    """Build the op with a constant of full length."""
    at = short_constant(b.node)
    assert at is not None
    length, number = b.node.inputs[1 - at].shape[0], b.node.inputs[at].values.reshape(-1)[0]
    sizes = b.const("sizes", np.full(length, number))
    return b.op(b.node.op, "result", *(sizes if index == at else t for index, t in enumerate(b.node.inputs)))
