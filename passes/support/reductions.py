"""Reductions whose result depends on how many numbers lie behind the reduced axes, in kernels that work in blocks."""

from __future__ import annotations

import math

import numpy as np
import onnx_graphsurgeon as gs

from segc.passes.support.edit import ints, rank

BLOCKED = ("ReduceSum", "ReduceMean", "ReduceMin")  # the branch of ReduceMax is right
_BLOCKS = ((32, 24), (16, 12))  # numbers in a block, with AVX and SSE; if more than so many remain, they are lost


def axes_of(node: gs.Node, count: int) -> list[int]:
    """The reduced axes, ascending and not negative; all of `count` if the node names none."""
    given = node.attrs.get("axes")
    if given is None and len(node.inputs) > 1:
        given = ints(node.inputs[1])
    return sorted({axis % count for axis in given}) if given else list(range(count))


def blocks_break(node: gs.Node) -> bool:
    """Whether the sizes behind the reduced axes are, or may be, such that the numbers of a last block are lost."""
    x = node.inputs[0]
    count = rank(x)
    if count is None or (x.dtype is not None and np.dtype(x.dtype).kind != "f"):
        return False
    last = axes_of(node, count)[-1]
    behind = list(x.shape[last + 1 :])
    if not behind:
        return False
    if not all(isinstance(size, int) for size in behind):
        return True
    row = math.prod(behind)
    return row > 1 and any(row % block > whole for block, whole in _BLOCKS)
