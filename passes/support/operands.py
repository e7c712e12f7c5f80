"""Operands that runtimes compute wrongly: of unequal ranks, one tensor twice, too few, a size taken by a vector."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from segc.passes.support.edit import ints, rank

ARITHMETIC = ("Add", "Sub", "Mul", "Div")
BLOCKED_RANK = 4  # tensors of more axes are not laid out in blocks of channels


def lower_operand(node: gs.Node) -> int | None:
    """Which float operand has fewer axes than the other, but at least two; None if neither or if a rank is unknown.

    Tensors of more than four axes do not count: a runtime that lays out channels in blocks leaves them as they are.
    """
    first, second = (rank(tensor) for tensor in node.inputs)
    dtype = next((t.dtype for t in node.inputs if t.dtype is not None), None)
    if first is None or second is None or dtype is None or np.dtype(dtype).kind != "f":
        return None
    if first == second or min(first, second) < 2 or max(first, second) > BLOCKED_RANK:
        return None
    return int(second < first)


def is_repeated(node: gs.Node) -> bool:
    """Whether both operands are the same computed tensor."""
    return node.inputs[0] is node.inputs[1] and bool(node.inputs[0].inputs)


def takes_one_by_vector(node: gs.Node) -> bool:
    """Whether the node gathers one element of a computed int64 vector by an index of shape [1]."""
    data, index = node.inputs[0], node.inputs[1]
    is_shape = bool(data.inputs) and (data.inputs[0].op == "Shape" or (rank(data) == 1 and data.dtype == np.int64))
    values = ints(index)
    return is_shape and values is not None and len(values) == 1 and rank(index) == 1


def needs_more_operands(ranks: Sequence[int]) -> bool:
    """Whether every operand has more axes than its number.

    A runtime that counts axes by the number of an operand then reads beyond the last operand.
    """
    return all(axes > at for at, axes in enumerate(ranks))


def short_constant(node: gs.Node) -> int | None:
    """Which operand is a constant of one element beside a computed int64 vector of known length; None if neither."""
    for at in (0, 1):
        constant, vector = node.inputs[at], node.inputs[1 - at]
        values = ints(constant)
        is_vector = bool(vector.inputs) and vector.dtype == np.int64 and rank(vector) == 1
        if values is not None and len(values) == 1 and is_vector and isinstance(vector.shape[0], int):
            return at if vector.shape[0] > 1 else None
    return None
