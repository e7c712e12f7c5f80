"""Attributes and constant inputs of ONNX nodes, read for the rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from segc.passes.support.edit import optional
from segc.targets.ncnn.net.net import Refused, Shape, require


def whole(node: gs.Node, name: str, default: int) -> int:
    """An integer attribute."""
    return int(node.attrs.get(name, default))


def real(node: gs.Node, name: str, default: float) -> float:
    """A float attribute."""
    return float(node.attrs.get(name, default))


def wholes(node: gs.Node, name: str, default: Sequence[int]) -> list[int]:
    """A list of integers."""
    return [int(value) for value in node.attrs.get(name, default)]


def constant(node: gs.Node, at: int, what: str) -> np.ndarray:
    """The value of input number `at`. Raises Refused when it is absent or computed at run time."""
    tensor = optional(node, at)
    require(tensor is not None, f"its {what} is missing")
    if not isinstance(tensor, gs.Constant):
        raise Refused(f"its {what} is computed at run time")
    values: np.ndarray = tensor.values
    return values


def constant_ints(node: gs.Node, at: int, what: str) -> list[int]:
    """The same as a flat list of integers."""
    return [int(value) for value in constant(node, at, what).flat]


def axes(node: gs.Node, at: int, rank: int) -> list[int] | None:
    """The axes of a node that has them as input number `at` or, in older opsets, as an attribute; from the front."""
    if "axes" in node.attrs:
        found = wholes(node, "axes", ())
    elif optional(node, at) is not None:
        found = constant_ints(node, at, "list of axes")
    else:
        return None
    return sorted(axis % rank for axis in found)


def axis(node: gs.Node, rank: int, default: int) -> int:
    """The axis, from the front."""
    return whole(node, "axis", default) % rank


def map_of(shape: Shape, what: str) -> None:
    """Raise Refused unless the shape is that of a map (c, h, w)."""
    require(len(shape) == 3, f"{what} is not N x C x H x W with N = 1")
