"""Which ncnn shape each ONNX tensor has.

ncnn works on one image, so the batch axis goes: a tensor of two axes or more loses axis 0 where its size is 1. What is
then left of more than four axes loses further axes of size 1, and where that is not enough the tensor is written flat:
only ops that move numbers in memory (Reshape, Transpose) take such a tensor.

    (1, 64, 32, 40) -> (64, 32, 40) = c, h, w        (1, 1280, 64) -> (1280, 64) = h, w
    (3, 1, 4, 77, 32) -> (3, 4, 77, 32) = c, d, h, w    (4, 8, 2, 8, 2, 64) -> (65536,) = w

Both sides keep numbers in row-major order, so every shape of a tensor is a Reshape of every other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from segc.targets.ncnn.net.layer_checks import MAX_RANK
from segc.targets.ncnn.net.net import Dim, Refused, Shape, total


@dataclass(frozen=True)
class Layout:
    """shape: in ncnn. axes: the ONNX axis that each ncnn axis is, None where the tensor is written flat."""

    shape: Shape
    axes: tuple[int, ...] | None

    def place(self, axis: int) -> int:
        """Where the ONNX axis (counted from the front) lies. Raises Refused when it has no axis of its own."""
        if self.axes is None or axis not in self.axes:
            raise Refused(f"axis {axis} has no place among the {len(self.shape)} axes {self.axes or ''} in ncnn")
        return self.axes.index(axis)


def dims(shape: Iterable[Any]) -> Shape:
    """ONNX sizes with None for what is not a number."""
    return tuple(int(size) if isinstance(size, (int, np.integer)) else None for size in shape)


def layout(sizes: Sequence[Dim]) -> Layout:
    """The ncnn shape of a tensor of this ONNX shape."""
    kept = list(range(len(sizes)))
    if len(kept) >= 2 and sizes[0] == 1:
        kept.remove(0)
    for axis in list(kept):
        if len(kept) > MAX_RANK and sizes[axis] == 1:
            kept.remove(axis)
    if len(kept) > MAX_RANK:
        return Layout((total(tuple(sizes)),), None)
    if not kept:
        return Layout((1,), ())
    return Layout(tuple(sizes[axis] for axis in kept), tuple(kept))


def layout_of(tensor: gs.Tensor) -> Layout:
    """The layout of a tensor. Raises Refused when its rank is unknown."""
    if tensor.shape is None:
        raise Refused(f"the rank of '{tensor.name}' is unknown")
    return layout(dims(tensor.shape))


def merged(sizes: Sequence[Dim], perm: Sequence[int]) -> tuple[list[list[int]], list[int]]:
    """Groups of axes that a transpose moves together, in the input's order, and the transpose of the groups.

    Axes of size 1 are in no group: moving them moves nothing.
    """
    moving = [axis for axis in perm if sizes[axis] != 1]
    rank = {axis: at for at, axis in enumerate(sorted(moving))}
    groups: list[list[int]] = []
    for axis in moving:
        if groups and rank[axis] == rank[groups[-1][-1]] + 1:
            groups[-1].append(axis)
        else:
            groups.append([axis])
    order = sorted(range(len(groups)), key=lambda g: groups[g][0])
    return [groups[g] for g in order], [order.index(g) for g in range(len(groups))]
