"""Readers for attributes and constant inputs of ONNX nodes; Refused where ncnn needs a value known only at run time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from segc.passes.support.edit import optional
from segc.targets.ncnn.net.net import Refused, Shape, require


def int_attr(node: gs.Node, name: str, default: int) -> int:
    """An integer attribute."""
    return int(node.attrs.get(name, default))


def float_attr(node: gs.Node, name: str, default: float) -> float:
    """A float attribute."""
    return float(node.attrs.get(name, default))


def int_list_attr(node: gs.Node, name: str, default: Sequence[int]) -> list[int]:
    """An attribute that is a list of integers."""
    return [int(value) for value in node.attrs.get(name, default)]


def constant_input(node: gs.Node, index: int, what: str) -> np.ndarray:
    """The value of input number `index`. Raises Refused when it is absent or computed at run time."""
    tensor = optional(node, index)
    require(tensor is not None, f"its {what} is missing")
    if not isinstance(tensor, gs.Constant):
        raise Refused(f"its {what} is computed at run time")
    values: np.ndarray = tensor.values
    return values


def constant_ints(node: gs.Node, index: int, what: str) -> list[int]:
    """`constant_input` as a flat list of integers."""
    return [int(value) for value in constant_input(node, index, what).flat]


def axes_of(node: gs.Node, index: int, rank: int) -> list[int] | None:
    """A node's axes, not negative, ascending; None when it has none.

    They are input number `index` or, in older opsets, an attribute.
    """
    if "axes" in node.attrs:
        axes = int_list_attr(node, "axes", ())
    elif optional(node, index) is not None:
        axes = constant_ints(node, index, "list of axes")
    else:
        return None
    return sorted(axis % rank for axis in axes)


def axis_of(node: gs.Node, rank: int, default: int) -> int:
    """The attribute `axis`, not negative."""
    return int_attr(node, "axis", default) % rank


def require_map(shape: Shape, what: str) -> None:
    """Raise Refused unless the blob shape is that of one map (c, h, w)."""
    require(len(shape) == 3, f"{what} is not N x C x H x W with N = 1")
