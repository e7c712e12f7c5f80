"""Keep a runtime from fusing a Conv with the Add of its own input.

    Conv(x) + x  ->  Conv(x) - (-x)

Exact to the last bit: negation is exact, and the difference rounds as the sum. A kernel that fuses Conv and Add may
write its result over x while it still reads x.

Must not fire: a summand that is not the input of that Conv; an x of `channels` channels or more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_graphsurgeon as gs

from segc.graph.invariants import FORM_RULES, PORTABLE, SINGLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Builder, rewrite, standard
from segc.passes.support.residual import own_input


@dataclass(frozen=True)
class BreakConvAddFusion(Pass):
    """Rewrite the sum of a Conv and its own input as a difference. channels: with so many or more, the sum stays."""

    name: ClassVar[str] = "break-conv-add-fusion"
    algebra: ClassVar[str] = "Conv(x) + x  ->  Conv(x) - (-x)"
    requires: ClassVar[frozenset[str]] = frozenset({SINGLE})
    ensures: ClassVar[frozenset[str]] = frozenset({"sums kept apart"})
    invalidates: ClassVar[frozenset[str]] = FORM_RULES | {PORTABLE}

    channels: int | None = None

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each node where it stands."""
        sites = [n for n in standard(graph, "Add") if self._is_affected(n)]
        return rewrite(graph, sites, lower, PassResult())

    def _is_affected(self, node: gs.Node) -> bool:
        x = own_input(node)
        if x is None:
            return False
        size = x.shape[1] if x.shape is not None and len(x.shape) > 1 else None
        return self.channels is None or not isinstance(size, int) or size < self.channels


def lower(b: Builder) -> gs.Tensor:
    """Build the nodes that replace one Add."""
    x = own_input(b.node)
    assert x is not None
    conv = next(t for t in b.node.inputs if t is not x)
    return b.op("Sub", "sum", conv, b.op("Neg", "negative", x))
