"""Shapes as parameters of Input, MemoryData and Reshape layers."""

from __future__ import annotations

from segc.targets.ncnn.net.net import Param, Shape, compatible, require, shape_text

DIM_LETTERS = {1: "w", 2: "hw", 3: "chw", 4: "cdhw"}  # ncnn's names of the axes, by rank


def size_params(shape: Shape) -> dict[str, Param]:
    """The known sizes of a shape as the layer parameters c, d, h and w."""
    return {name: size for name, size in zip(DIM_LETTERS[len(shape)], shape, strict=True) if size is not None}


def same_sizes(given: Shape, wanted: Shape) -> str:
    """The `shape_expr` of a Reshape that only adds or removes axes of size 1. Raises Refused for any other Reshape."""
    own = [f"0{letter}" for letter, size in zip(DIM_LETTERS[len(given)], given, strict=True) if size != 1]
    require(
        compatible(tuple(s for s in given if s != 1), tuple(s for s in wanted if s != 1)),
        f"reshaping {shape_text(given)} to {shape_text(wanted)} needs sizes known at run time only",
    )
    return ",".join(["1" if size == 1 else own.pop() for size in reversed(wanted)])
