"""The typed form of an ncnn network: layers with named parameters, blobs with shapes, weights by reference.

ncnn checks nothing at run time: a wrong shape or parameter reads or writes memory that is not its own. So every layer
is held to its contract (contracts.py) when it is added here, and knows the shape of each blob it makes.

A shape counts from the outside in, as NumPy does: (c, d, h, w), (c, h, w), (h, w) or (w,). A size that is known at run
time only is None; it agrees with every size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

Dim = int | None
Shape = tuple[Dim, ...]
Param = int | float | str | Sequence[int] | Sequence[float]


class Refused(Exception):  # noqa: N818 - an answer, not a defect
    """What was asked for has no spelling in ncnn's layers; the text is the reason, in a few words."""


@dataclass(eq=False)
class Blob:
    """What a layer makes. Blobs are compared by identity."""

    name: str
    shape: Shape

    @property
    def rank(self) -> int:
        """Number of axes, 1 to 4."""
        return len(self.shape)


@dataclass(frozen=True, eq=False)
class Weight:
    """An array of the .bin file, float32. tagged: a word that says how it is stored comes before it."""

    values: np.ndarray
    tagged: bool = False


@dataclass(eq=False)
class Layer:
    """One line of the .param file. params: by the names in params.py; node: the ONNX node that it serves."""

    type: str
    name: str
    inputs: list[Blob]
    outputs: list[Blob]
    params: dict[str, Param] = field(default_factory=dict)
    weights: list[Weight] = field(default_factory=list)
    node: str = ""

    def whole(self, name: str, default: int) -> int:
        """An integer parameter; ncnn's default counts when it is absent."""
        value = self.params.get(name, default)
        assert isinstance(value, int)
        return value

    def wholes(self, name: str) -> list[int]:
        """A list of integers; empty when it is absent."""
        value = self.params.get(name, ())
        assert not isinstance(value, (int, float, str))
        return [int(v) for v in value]


@dataclass
class Net:
    """Layers in topological order. outputs: blobs that somebody outside reads."""

    layers: list[Layer] = field(default_factory=list)
    outputs: list[Blob] = field(default_factory=list)

    def producers(self) -> dict[int, Layer]:
        """The layer that makes each blob, by the blob's id."""
        return {id(blob): layer for layer in self.layers for blob in layer.outputs}

    def users(self) -> dict[int, list[Layer]]:
        """The layers that read each blob, by the blob's id; a layer that reads it twice is there twice."""
        found: dict[int, list[Layer]] = {}
        for layer in self.layers:
            for blob in layer.inputs:
                found.setdefault(id(blob), []).append(layer)
        return found


def total(shape: Shape) -> Dim:
    """Number of elements, None when a size is unknown."""
    count = 1
    for size in shape:
        if size is None:
            return None
        count *= size
    return count


def agree(a: Shape, b: Shape) -> bool:
    """Whether the shapes are equal as far as they are known."""
    return len(a) == len(b) and all(p == q or p is None or q is None for p, q in zip(a, b, strict=True))


def require(holds: bool, reason: str) -> None:
    """Raise Refused with the reason unless it holds."""
    if not holds:
        raise Refused(reason)


def known(shape: Shape, what: str) -> tuple[int, ...]:
    """The shape when every size of it is a number."""
    sizes = tuple(size for size in shape if size is not None)
    require(len(sizes) == len(shape), f"{what} has a size that is known at run time only")
    return sizes


def text(shape: Shape) -> str:
    """A shape for messages."""
    return "x".join("?" if size is None else str(size) for size in shape)


ParamTable = Mapping[str, tuple[int, str]]
