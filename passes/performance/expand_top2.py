"""Spell the two largest of a channel axis as a tournament, for runtimes whose TopK walks through memory for each pixel.

values of TopK(x, 2, axis)  ->  Concat(first, second, axis), from halves that are merged again and again:
    first = Max(a1, b1);  second = Max(Min(a1, b1), a2, b2)

where (a1, a2) and (b1, b2) are the two largest of either half. Maxima and minima round nothing, and equal numbers count
twice as in TopK. PointRend takes the distance between the two best classes of all pixels at every step: ONNX Runtime
needs less than half the time this way.

Must not fire: other counts than 2, indices that are used, the least instead of the largest, an axis of unknown size,
and the last axis, whose numbers lie side by side. Where a class is NaN both numbers are.
"""

from __future__ import annotations

from typing import Any

import onnx_graphsurgeon as gs

from segc.graph.invariants import PORTABLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Builder, Cannot, rewrite, standard
from segc.passes.support.edit import ints, protected


class ExpandTop2(Pass):
    """Rewrite TopK with k = 2 into Split, Max and Min."""

    name = "expand-top2"
    algebra = "values of TopK(x, 2)  ->  Max and Min of halves, merged"
    invalidates = frozenset({PORTABLE})

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each node where it stands."""
        keep = protected(graph)
        return rewrite(graph, standard(graph, "TopK"), lambda b: spelled(b, keep), PassResult())


def spelled(b: Builder, keep: set[int]) -> gs.Tensor:
    """The new nodes for one site."""
    x, indices = b.node.inputs[0], b.node.outputs[1]
    if len(b.node.inputs) < 2 or ints(b.node.inputs[1]) != [2]:
        raise Cannot("its count is not 2")
    if indices.outputs or id(indices) in keep:
        raise Cannot(f"its indices '{indices.name}' are used")
    if not b.node.attrs.get("largest", 1):
        raise Cannot("it takes the least")
    if b.opset < 18:
        raise Cannot(f"opset {b.opset} has another Split")
    if x.shape is None:
        raise Cannot(f"the rank of '{x.name}' is unknown")
    axis = b.node.attrs.get("axis", -1) % len(x.shape)
    if axis == len(x.shape) - 1:
        raise Cannot("it is along the last axis")
    if not isinstance(size := x.shape[axis], int) or size < 2:
        raise Cannot(f"the size of '{x.name}' along axis {axis} is unknown")
    first, second = _Tournament(b, axis).best(x, size)
    return b.op("Concat", "two", first, second, axis=axis)


class _Tournament:
    """Largest and second largest of ever fewer pairs."""

    def __init__(self, b: Builder, axis: int) -> None:
        self.b, self.axis, self.round = b, axis, 0

    def best(self, first: gs.Tensor, size: int) -> tuple[gs.Tensor, gs.Tensor]:
        """Both, of size 1 along the axis."""
        second: gs.Tensor | None = None
        odd: list[tuple[gs.Tensor, gs.Tensor | None]] = []
        while size > 1:
            sizes = [size // 2] * 2 + [1] * (size % 2)
            firsts = self._split("first", first, sizes)
            seconds = [None] * len(sizes) if second is None else self._split("second", second, sizes)
            odd += list(zip(firsts[2:], seconds[2:], strict=True))
            first, second = self._merged((firsts[0], seconds[0]), (firsts[1], seconds[1]))
            size //= 2
        for left in odd:
            first, second = self._merged((first, second), left)
        assert second is not None
        return first, second

    def _split(self, role: str, x: gs.Tensor, sizes: list[int]) -> list[Any]:
        names = [f"{role}{self.round}_{part}" for part in "abc"[: len(sizes)]]
        return self.b.split("Split", names, x, self.b.const(f"{role}{self.round}_sizes", sizes), axis=self.axis)

    def _merged(
        self, a: tuple[gs.Tensor, gs.Tensor | None], b: tuple[gs.Tensor, gs.Tensor | None]
    ) -> tuple[gs.Tensor, gs.Tensor]:
        """The two largest of two pairs; a pair without a second is one number."""
        op, at = self.b.op, self.round
        self.round += 1
        second: gs.Tensor = op("Min", f"lesser{at}", a[0], b[0])
        others = [t for t in (a[1], b[1]) if t is not None]
        if others:
            second = op("Max", f"second{at}", second, *others)
        return op("Max", f"first{at}", a[0], b[0]), second
