"""Expand TopK with k = 2 along a channel axis into a tournament of Max and Min.

values of TopK(x, 2, axis)  ->  Concat(first, second, axis), by merging the two halves of the axis repeatedly:
    first = Max(a1, b1);  second = Max(Min(a1, b1), a2, b2)

where (a1, a2) and (b1, b2) are the two largest values of either half. Max and Min do not round, and equal numbers count
twice as in TopK. For runtimes whose TopK strides through memory for each pixel: PointRend compares the two best classes
of all pixels at every step, and ONNX Runtime does that in less than half the time this way.

Must not fire: a k other than 2; indices that are used; the smallest instead of the largest; an axis of unknown size;
the last axis, whose values are contiguous. If a class is NaN, both results are NaN.
"""

from __future__ import annotations

from typing import Any

import onnx_graphsurgeon as gs

from segc.graph.invariants import PORTABLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Builder, RewriteNotApplicable, rewrite, standard
from segc.passes.support.edit import ints, protected


class ExpandTop2(Pass):
    """Expand TopK with k = 2 into Split, Max and Min."""

    name = "expand-top2"
    algebra = "values of TopK(x, 2)  ->  Max and Min of halves, merged"
    invalidates = frozenset({PORTABLE})

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each node where it stands."""
        protected_ids = protected(graph)
        return rewrite(graph, standard(graph, "TopK"), lambda b: expand(b, protected_ids), PassResult())


def expand(b: Builder, protected_ids: set[int]) -> gs.Tensor:
    """Build the nodes that replace one TopK. Raises RewriteNotApplicable."""
    x, indices = b.node.inputs[0], b.node.outputs[1]
    if ints(b.node.inputs[1]) != [2]:
        raise RewriteNotApplicable("its k is not 2")
    if indices.outputs or id(indices) in protected_ids:
        raise RewriteNotApplicable(f"its indices '{indices.name}' are used")
    if not b.node.attrs.get("largest", 1):
        raise RewriteNotApplicable("it takes the smallest values")
    if b.opset < 18:
        raise RewriteNotApplicable(f"the expansion needs opset 18, the graph has {b.opset}")
    if x.shape is None:
        raise RewriteNotApplicable(f"the rank of '{x.name}' is unknown")
    axis = b.node.attrs.get("axis", -1) % len(x.shape)
    if axis == len(x.shape) - 1:
        raise RewriteNotApplicable("it is along the last axis")
    if not isinstance(size := x.shape[axis], int) or size < 2:
        raise RewriteNotApplicable(f"the size of '{x.name}' along axis {axis} is unknown")
    first, second = _Tournament(b, axis).best(x, size)
    return b.op("Concat", "two", first, second, axis=axis)


class _Tournament:
    """Finds the largest and the second largest value along an axis by merging halves."""

    def __init__(self, b: Builder, axis: int) -> None:
        self.b, self.axis, self.round = b, axis, 0

    def best(self, first: gs.Tensor, size: int) -> tuple[gs.Tensor, gs.Tensor]:
        """The largest and the second largest value, each of size 1 along the axis. size: that of `first`."""
        second: gs.Tensor | None = None
        odd: list[tuple[gs.Tensor, gs.Tensor | None]] = []
        while size > 1:
            sizes = [size // 2] * 2 + [1] * (size % 2)
            firsts = self._split("first", first, sizes)
            seconds = [None] * len(sizes) if second is None else self._split("second", second, sizes)
            odd += list(zip(firsts[2:], seconds[2:], strict=True))
            first, second = self._merge((firsts[0], seconds[0]), (firsts[1], seconds[1]))
            size //= 2
        for left in odd:
            first, second = self._merge((first, second), left)
        assert second is not None
        return first, second

    def _split(self, role: str, x: gs.Tensor, sizes: list[int]) -> list[Any]:
        names = [f"{role}{self.round}_{part}" for part in "abc"[: len(sizes)]]
        return self.b.split("Split", names, x, self.b.const(f"{role}{self.round}_sizes", sizes), axis=self.axis)

    def _merge(
        self, a: tuple[gs.Tensor, gs.Tensor | None], b: tuple[gs.Tensor, gs.Tensor | None]
    ) -> tuple[gs.Tensor, gs.Tensor]:
        """The two largest values of two pairs; a pair without a second value is one value."""
        op, round_ = self.b.op, self.round
        self.round += 1
        second: gs.Tensor = op("Min", f"lesser{round_}", a[0], b[0])
        others = [t for t in (a[1], b[1]) if t is not None]
        if others:
            second = op("Max", f"second{round_}", second, *others)
        return op("Max", f"first{round_}", a[0], b[0]), second
