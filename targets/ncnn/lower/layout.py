"""Layouts: the ncnn blob shape of each ONNX tensor.

ncnn processes one image, so the batch axis is dropped: a tensor of two or more axes loses axis 0 where its size is 1.
If more than four axes are left, further axes of size 1 are dropped. If that is not enough the tensor becomes a flat
vector, which only ops that move numbers in memory (Reshape, Transpose) accept.

    (1, 64, 32, 40) -> (64, 32, 40) = c, h, w        (1, 1280, 64) -> (1280, 64) = h, w
    (3, 1, 4, 77, 32) -> (3, 4, 77, 32) = c, d, h, w    (4, 8, 2, 8, 2, 64) -> (65536,) = w

ONNX and ncnn both store numbers in row-major order, so any two shapes of one tensor differ by a Reshape.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from segc.targets.ncnn.net.layer_checks import MAX_RANK
from segc.targets.ncnn.net.net import Dim, Refused, Shape, element_count


@dataclass(frozen=True)
class Layout:
    """shape: of the blob. axes: the ONNX axis of each blob axis; None for a tensor stored as a flat vector."""

    shape: Shape
    axes: tuple[int, ...] | None

    def position(self, axis: int) -> int:
        """The blob axis that holds an ONNX axis (not negative). Raises Refused where the axis was dropped or merged."""
        if self.axes is None or axis not in self.axes:
            raise Refused(f"axis {axis} has no place among the {len(self.shape)} axes {self.axes or ''} in ncnn")
        return self.axes.index(axis)


def dims(shape: Iterable[Any]) -> Shape:
    """An ONNX shape with None for symbolic sizes."""
    return tuple(int(size) if isinstance(size, (int, np.integer)) else None for size in shape)


def layout_of_shape(sizes: Sequence[Dim]) -> Layout:
    """The layout of a tensor of this ONNX shape."""
    kept = list(range(len(sizes)))
    if len(kept) >= 2 and sizes[0] == 1:
        kept.remove(0)
    for axis in list(kept):
        if len(kept) > MAX_RANK and sizes[axis] == 1:
            kept.remove(axis)
    if len(kept) > MAX_RANK:
        return Layout((element_count(tuple(sizes)),), None)
    if not kept:
        return Layout((1,), ())
    return Layout(tuple(sizes[axis] for axis in kept), tuple(kept))


def layout_of(tensor: gs.Tensor) -> Layout:
    """The layout of a tensor. Raises Refused when its rank is unknown."""
    if tensor.shape is None:
        raise Refused(f"the rank of '{tensor.name}' is unknown")
    return layout_of_shape(dims(tensor.shape))


def merge_axes(sizes: Sequence[Dim], perm: Sequence[int]) -> tuple[list[list[int]], list[int]]:
    """Simplify a transpose: groups of axes that stay adjacent, in input order, and the permutation of the groups.

    Axes of size 1 are in no group, since moving them moves nothing.
    """
    moved_axes = [axis for axis in perm if sizes[axis] != 1]
    rank = {axis: position for position, axis in enumerate(sorted(moved_axes))}
    groups: list[list[int]] = []  # in output order
    for axis in moved_axes:
        if groups and rank[axis] == rank[groups[-1][-1]] + 1:
            groups[-1].append(axis)
        else:
            groups.append([axis])
    input_order = sorted(range(len(groups)), key=lambda g: groups[g][0])
    return [groups[g] for g in input_order], [input_order.index(g) for g in range(len(groups))]
