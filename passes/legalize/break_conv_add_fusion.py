"""Keep a runtime from fusing the sum of a Conv and its own input.

    Conv(x) + x  ->  Conv(x) - (-x)

to the last bit: a negative is exact, and so is the difference's rounding. A kernel that adds while it convolves may
write its result over x, which it still reads.

Must not fire: where the other summand is not the input of that Conv, and for an x of `channels` and more.
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
    """Spell the sum of a Conv and its own input as a difference. channels: from so many on it is left alone."""

    name: ClassVar[str] = "break-conv-add-fusion"
    algebra: ClassVar[str] = "Conv(x) + x  ->  Conv(x) - (-x)"
    requires: ClassVar[frozenset[str]] = frozenset({SINGLE})
    ensures: ClassVar[frozenset[str]] = frozenset({"sums kept apart"})
    invalidates: ClassVar[frozenset[str]] = FORM_RULES | {PORTABLE}

    channels: int | None = None

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each node where it stands."""
        sites = [n for n in standard(graph, "Add") if self._sum(n)]
        return rewrite(graph, sites, spelled, PassResult())

    def _sum(self, node: gs.Node) -> bool:
        x = own_input(node)
        if x is None:
            return False
        size = x.shape[1] if x.shape is not None and len(x.shape) > 1 else None
        return self.channels is None or not isinstance(size, int) or size < self.channels


def spelled(b: Builder) -> gs.Tensor:
    """The new nodes for one site."""
    x = own_input(b.node)
    assert x is not None
    conv = next(t for t in b.node.inputs if t is not x)
    return b.op("Sub", "sum", conv, b.op("Neg", "negative", x))
