"""Keep a runtime from fusing an Add into a Conv where its fused kernel is wrong.

    Conv(x) + x        ->  Conv(x) - (-x)
    (Conv(x) + a) + b  ->  (Conv(x) + a) - (-b)
    (Conv(x) + a) + c  ->  c + (Conv(x) + a)          c a convolution that nothing else reads

Exact to the last bit: negation is exact, and the difference rounds as the sum. A kernel that fuses Conv and Add may
write its result over x while it still reads x. A Conv has room for one sum: a runtime that fuses a second one into it
loses a summand.

Must not fire: a summand that is not the input of that Conv; an x of `channels` channels or more; sums of different
shapes, or with an activation between them, which are not fused; with `chains` off, the second and the third line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_graphsurgeon as gs

from segc.graph.invariants import PORTABLE, SINGLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Builder, rewrite, standard
from segc.passes.support.residual import is_convolution, is_read_once, own_input, second_sum


@dataclass(frozen=True)
class BreakConvAddFusion(Pass):
    """Rewrite sums that the runtime fuses wrongly.

    channels: with so many or more, the sum of a Conv and its input stays. chains: also rewrite the second of two sums.
    """

    name: ClassVar[str] = "break-conv-add-fusion"
    algebra: ClassVar[str] = "Conv(x) + x  ->  Conv(x) - (-x);  (Conv(x) + a) + b  ->  (Conv(x) + a) - (-b)"
    requires: ClassVar[frozenset[str]] = frozenset({SINGLE})
    ensures: ClassVar[frozenset[str]] = frozenset({"sums kept apart"})
    invalidates: ClassVar[frozenset[str]] = frozenset({PORTABLE})

    channels: int | None = None
    chains: bool = False

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each node where it stands."""
        result = PassResult()
        rewrite(graph, [n for n in standard(graph, "Add") if self._adds_own_input(n)], subtract_own_input, result)
        if self.chains:
            for node in standard(graph, "Add"):  # one after the other: an Add that is gone makes no chain
                if second_sum(node) is not None:
                    rewrite(graph, [node], subtract_second_summand, result)
        return result

    def _adds_own_input(self, node: gs.Node) -> bool:
        x = own_input(node)
        if x is None:
            return False
        size = x.shape[1] if x.shape is not None and len(x.shape) > 1 else None
        return self.channels is None or not isinstance(size, int) or size < self.channels


def subtract_own_input(b: Builder) -> gs.Tensor:
    """Build the nodes that replace one Add of a Conv and its input."""
    x = own_input(b.node)
    assert x is not None
    conv = next(t for t in b.node.inputs if t is not x)
    return b.op("Sub", "sum", conv, b.op("Neg", "negative", x))


def subtract_second_summand(b: Builder) -> gs.Tensor:
    """Build the nodes that replace the second of two Adds."""
    at = second_sum(b.node)
    assert at is not None
    first, summand = b.node.inputs[at], b.node.inputs[1 - at]
    if is_convolution(summand) and is_read_once(summand):
        return b.op("Add", "sum", summand, first)
    if isinstance(summand, gs.Constant):
        return b.op("Sub", "sum", first, b.const("negative", -summand.values))
    return b.op("Sub", "sum", first, b.op("Neg", "negative", summand))
