"""Nodes that compute the interpolation matrices of a linear Resize whose sides are known only at run time."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from segc.passes.support.builder import Builder, RewriteNotApplicable, text, typed
from segc.passes.support.dtypes import F32
from segc.passes.support.edit import optional, small_constant
from segc.passes.support.resize_kinds import kind_of
from segc.passes.support.resize_matrix import COORDINATES


def require_plain(node: gs.Node) -> None:
    """Raise RewriteNotApplicable unless a Resize changes the last two of four axes of floats, by known coordinates."""
    x, scales = node.inputs[0], optional(node, 2)
    typed(x)
    if len(x.shape) != 4 or np.dtype(x.dtype).kind != "f":
        raise RewriteNotApplicable(f"'{x.name}' is {np.dtype(x.dtype).name} of {len(x.shape)} axes")
    if node.attrs.get("antialias", 0) or text(node, "keep_aspect_ratio_policy", "stretch") != "stretch":
        raise RewriteNotApplicable("it has antialias or keeps the aspect ratio")
    if kind_of(node).coordinates not in COORDINATES:
        raise RewriteNotApplicable(f"its coordinate mode is {kind_of(node).coordinates}")
    known = None if scales is None else small_constant(scales)
    if optional(node, 3) is None and known is None:
        raise RewriteNotApplicable("its scales are not constant")
    axes = list(node.attrs.get("axes", range(4)))
    if known is not None and known.size and any(v != 1 for v, a in zip(known, axes, strict=True) if a % 4 < 2):
        raise RewriteNotApplicable("it resizes axes other than the last two")
    y = node.outputs[0]
    if y.shape is None or len(y.shape) != 4:
        raise RewriteNotApplicable(f"the shape of '{y.name}' is unknown")


class Sides:
    """The sizes of a map before and after a Resize, as tensors. b: the builder of their nodes."""

    def __init__(self, b: Builder, resize: gs.Node) -> None:
        self.b, self.x = b, resize.inputs[0]
        self.before: gs.Tensor = b.op("Shape", "shape", self.x)
        sizes = optional(resize, 3)
        self.axes = [a % 4 for a in resize.attrs.get("axes", range(4))]
        self.sizes = sizes
        given = None if sizes is not None else small_constant(resize.inputs[2])
        self.scales = [1.0] * 4
        for axis, value in zip(self.axes, given if given is not None else [], strict=False):
            self.scales[axis] = float(value)

    def changes(self, axis: int) -> bool:
        """Whether the Resize may change the size of this axis."""
        return axis in self.axes and (self.sizes is not None or self.scales[axis] != 1)

    def weights(self, axis: int, role: str, coordinates: str) -> gs.Tensor:
        """The interpolation matrix: float[out, size] for axis 2, float[size, out] for axis 3."""
        b = self.b
        size = self._float(f"{role}_size", self._element(f"{role}_side", self.before, axis))
        out, scale = self._output_size(role, axis, size)
        source = self._source_coordinates(role, coordinates, size, out, scale)
        last = b.op("Sub", f"{role}_end", size, self._number(f"{role}_one", 1))
        source = b.op("Min", f"{role}_before", b.op("Relu", f"{role}_after", source), last)
        cells = self._range_of(f"{role}_cell", size)
        column, row = (source, cells) if axis == 2 else (cells, source)
        distance = b.op(
            "Sub", f"{role}_apart", b.unsqueeze(f"{role}_column", column, [1]), b.unsqueeze(f"{role}_row", row, [0])
        )
        rising = b.op("Add", f"{role}_rising", distance, self._number(f"{role}_full", 1))
        falling = b.op("Sub", f"{role}_falling", self._number(f"{role}_whole", 1), distance)
        return b.op("Relu", role, b.op("Min", f"{role}_hat", rising, falling))

    def _output_size(self, role: str, axis: int, size: gs.Tensor) -> tuple[gs.Tensor, gs.Tensor]:
        """The size after the Resize, and the scale; both float scalars."""
        b = self.b
        if self.sizes is not None:
            out = self._float(f"{role}_out", self._element(f"{role}_wanted", self.sizes, self.axes.index(axis)))
            return out, b.op("Div", f"{role}_scale", out, size)
        scale = self._number(f"{role}_scale", self.scales[axis])
        return b.op("Floor", f"{role}_out", b.op("Mul", f"{role}_scaled", size, scale)), scale

    def _source_coordinates(
        self, role: str, coordinates: str, size: gs.Tensor, out: gs.Tensor, scale: gs.Tensor
    ) -> gs.Tensor:
        """float[out]: the coordinate that each cell of the result reads."""
        b = self.b
        i = self._range_of(f"{role}_index", out)
        one, half = self._number(f"{role}_unit", 1), self._number(f"{role}_half", 0.5)
        if coordinates == "align_corners":
            gaps = b.op("Max", f"{role}_gaps", b.op("Sub", f"{role}_less", out, one), one)
            span = b.op("Sub", f"{role}_span", size, one)
            return b.op("Div", f"{role}_at", b.op("Mul", f"{role}_far", i, span), gaps)
        if coordinates == "asymmetric":
            return b.op("Div", f"{role}_at", i, scale)
        if coordinates == "half_pixel_symmetric" and self.sizes is None:
            raise RewriteNotApplicable("it is half_pixel_symmetric with scales, on sides that are not static")
        middle = b.op("Div", f"{role}_middle", b.op("Add", f"{role}_centre", i, half), scale)
        source = b.op("Sub", f"{role}_at", middle, half)
        if coordinates != "pytorch_half_pixel":
            return source
        several = b.cast(f"{role}_several", b.op("Greater", f"{role}_more", out, one), F32)
        return b.op("Mul", f"{role}_kept", source, several)

    def _range_of(self, role: str, count: gs.Tensor) -> gs.Tensor:
        """float[count]: 0, 1, 2, ..."""
        zero, one = self._number(f"{role}_zero", 0), self._number(f"{role}_step", 1)
        cells = self.b.op("Range", role, zero, count, one)
        cells.shape = [None]
        return cells

    def _element(self, role: str, vector: gs.Tensor, index: int) -> gs.Tensor:
        return self.b.op("Gather", role, vector, self.b.const(f"{role}_axis", index), axis=0)

    def _float(self, role: str, value: gs.Tensor) -> gs.Tensor:
        return self.b.cast(role, value, F32)

    def _number(self, role: str, value: float) -> gs.Constant:
        return self.b.const(role, value, F32)
