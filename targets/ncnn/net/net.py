"""An ncnn net in memory: layers with named parameters, blobs with shapes, weights by reference.

ncnn checks nothing at run time: a wrong shape or parameter makes it read or write memory out of bounds. So every layer
is checked (layer_checks.py) when it is appended, and every blob knows its shape.

Shapes list the outermost axis first, as NumPy does: (c, d, h, w), (c, h, w), (h, w) or (w,). A size that is known at
run time only is None, and is compatible with every size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

Dim = int | None
Shape = tuple[Dim, ...]
Param = int | float | str | Sequence[int] | Sequence[float]


class Refused(Exception):  # noqa: N818 - an answer, not a defect
    """ncnn's layers cannot express what was asked for; the text is the reason, in a few words."""


@dataclass(eq=False)
class Blob:
    """A value that a layer computes. Blobs are compared by identity."""

    name: str
    shape: Shape

    @property
    def rank(self) -> int:
        """Number of axes, 1 to 4."""
        return len(self.shape)


@dataclass(frozen=True, eq=False)
class Weight:
    """An array of the .bin file, float32 or int8. tagged: a 4-byte tag before it gives its storage type."""

    values: np.ndarray
    tagged: bool = False


@dataclass(eq=False)
class Layer:
    """One line of the .param file. params: by the names in params.py; node: the ONNX node that it was lowered from."""

    type: str
    name: str
    inputs: list[Blob]
    outputs: list[Blob]
    params: dict[str, Param] = field(default_factory=dict)
    weights: list[Weight] = field(default_factory=list)
    node: str = ""

    def int_param(self, name: str, default: int) -> int:
        """An integer parameter; `default` is ncnn's own."""
        value = self.params.get(name, default)
        assert isinstance(value, int)
        return value

    def int_list_param(self, name: str) -> list[int]:
        """A parameter that is a list of integers; empty when absent."""
        values = self.params.get(name, ())
        assert not isinstance(values, (int, float, str))
        return [int(value) for value in values]


@dataclass
class Net:
    """Layers in topological order. outputs: the blobs that the caller extracts."""

    layers: list[Layer] = field(default_factory=list)
    outputs: list[Blob] = field(default_factory=list)

    def producers(self) -> dict[int, Layer]:
        """The layer that computes each blob, by the blob's id."""
        return {id(blob): layer for layer in self.layers for blob in layer.outputs}

    def readers(self) -> dict[int, list[Layer]]:
        """The layers that read each blob, by the blob's id; a layer that reads it twice is listed twice."""
        readers: dict[int, list[Layer]] = {}
        for layer in self.layers:
            for blob in layer.inputs:
                readers.setdefault(id(blob), []).append(layer)
        return readers


def element_count(shape: Shape) -> Dim:
    """Number of elements; None when a size is unknown."""
    count = 1
    for size in shape:
        if size is None:
            return None
        count *= size
    return count


def compatible(a: Shape, b: Shape) -> bool:
    """Whether the shapes may be equal: same rank, and equal sizes wherever both are known."""
    return len(a) == len(b) and all(p == q or p is None or q is None for p, q in zip(a, b, strict=True))


def require(condition: bool, reason: str) -> None:
    """Raise Refused with the reason unless the condition holds."""
    if not condition:
        raise Refused(reason)


def known_sizes(shape: Shape, what: str) -> tuple[int, ...]:
    """The shape as numbers. Raises Refused when a size is unknown; what: the shape's name in the message."""
    sizes = tuple(size for size in shape if size is not None)
    require(len(sizes) == len(shape), f"{what} has a size that is known at run time only")
    return sizes


def shape_text(shape: Shape) -> str:
    """A shape for messages: 64x?x40."""
    return "x".join("?" if size is None else str(size) for size in shape)


ParamTable = Mapping[str, tuple[int, str]]  # parameter name -> (id in the .param file, kind), see params.py
