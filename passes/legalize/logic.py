"""Expand Or and Xor into And, Not and Equal, for runtimes without them.

    Or(a, b)   ->  Not(And(Not(a), Not(b)))
    Xor(a, b)  ->  Not(Equal(Cast<int64>(a), Cast<int64>(b)))

Exact. Equal compares integers, since some runtimes do not compare booleans.

Must not fire: ops that are not in `ops`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph.invariants import FORM_RULES, PORTABLE, SINGLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Builder, rewrite, standard


@dataclass(frozen=True)
class LegalizeLogic(Pass):
    """Expand Or and Xor. ops: those that the runtime lacks."""

    name: ClassVar[str] = "legalize-logic"
    algebra: ClassVar[str] = "Or(a, b)  ->  Not(And(Not(a), Not(b)));  Xor(a, b)  ->  Not(Equal(a, b)) of integers"
    requires: ClassVar[frozenset[str]] = frozenset({SINGLE})
    ensures: ClassVar[frozenset[str]] = frozenset({"logic legalized"})
    invalidates: ClassVar[frozenset[str]] = FORM_RULES | {PORTABLE, "types legalized"}

    ops: tuple[str, ...] = ("Or", "Xor")

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each node where it stands."""
        return rewrite(graph, standard(graph, *self.ops), expand, PassResult())


def expand(b: Builder) -> gs.Tensor:
    """Build the nodes that replace one op."""
    left, right = b.node.inputs
    if b.node.op == "Or":
        return b.op("Not", "or", b.op("And", "neither", b.op("Not", "not_a", left), b.op("Not", "not_b", right)))
    pair = [b.cast(role, t, np.int64) for role, t in (("a", left), ("b", right))]
    return b.op("Not", "xor", b.op("Equal", "same", *pair))
