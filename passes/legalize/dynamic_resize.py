"""Let a runtime see only those kinds of Resize that it has, on sides that are known at run time only.

Where legalize-resize compares matrices, there are none here; two things can be said all the same:

    half_pixel  =  pytorch_half_pixel      where the result has more than one cell, or the map has one

and a linear Resize of any coordinates is two products with matrices that are computed from the sizes,

    Resize(x)  ->  rows @ x @ cols,    rows[i, cell] = max(0, 1 - |at(i) - cell|)

with at(i) the coordinate at which cell i reads, clipped to the map. The weights are computed in float32, so they are
off by the rounding of at(i): about 1e-5 on maps of 200 cells.

`several` says that no side of unknown size is ever resized to one cell, as torch.export takes for granted for every
size that it leaves open. Without it half_pixel is spelled by products too.

Must not fire: on static sides, which are legalize-resize's; on kinds that are in `modes`; for nearest and cubic of
other coordinates; with scales other than 1 along other axes than the last two; with antialias or tf_crop_and_resize;
and on a rank other than four.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph import ir
from segc.passes.base import Pass, PassResult
from segc.passes.legalize.resize import EVERYWHERE, Modes, kind_of
from segc.passes.support.builder import Builder, Cannot, rewrite, standard, text, typed
from segc.passes.support.edit import optional, small_constant
from segc.passes.support.resize_matrix import COORDINATES

INT64, FLOAT = np.dtype(np.int64), np.dtype(np.float32)


@dataclass(frozen=True)
class LegalizeDynamicResize(Pass):
    """Rewrite each Resize of a kind that is not in `modes`, on sides that are not static.

    modes: pairs of mode and coordinate_transformation_mode that the runtime has. several: no side of unknown size is
    resized to one cell.
    """

    name: ClassVar[str] = "legalize-dynamic-resize"
    algebra: ClassVar[str] = "Resize(x)  ->  Resize of an allowed kind, else rows @ x @ cols computed from the sizes"

    modes: Modes = EVERYWHERE
    several: bool = False

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each node where it stands."""
        sites = [n for n in standard(graph, "Resize") if not _static(n) and not self._allows(n)]
        return rewrite(graph, sites, partial(spelled, self), PassResult())

    def _allows(self, node: gs.Node) -> bool:
        kind = kind_of(node)
        return (kind.mode, kind.coordinates) in self.modes


def _static(node: gs.Node) -> bool:
    return ir.static_shape(node.inputs[0]) is not None and ir.static_shape(node.outputs[0]) is not None


def spelled(step: LegalizeDynamicResize, b: Builder) -> gs.Tensor:
    """The new nodes for one site."""
    node, kind = b.node, kind_of(b.node)
    require_plain(node)
    same = (kind.mode, "pytorch_half_pixel") in step.modes
    if step.several and kind.coordinates == "half_pixel" and same and not _one_cell(node):
        return b.op("Resize", "resized", *node.inputs, **_renamed(node))
    if kind.mode != "linear":
        raise Cannot(f"{kind.mode} {kind.coordinates} on sides that are not static")
    y: gs.Tensor = node.inputs[0]
    sizes = Sides(b, node)
    if sizes.changes(3):
        y = b.op("MatMul", "across", y, sizes.weights(3, "cols", kind.coordinates))
    if sizes.changes(2):
        y = b.op("MatMul", "down", sizes.weights(2, "rows", kind.coordinates), y)
    y.shape = list(b.y.shape) if b.y.shape is not None else y.shape
    return y


def require_plain(node: gs.Node) -> None:
    """Raise Cannot unless a Resize changes the last two of four axes of floats, by coordinates that are known."""
    x, scales = node.inputs[0], optional(node, 2)
    typed(x)
    if len(x.shape) != 4 or np.dtype(x.dtype).kind != "f":
        raise Cannot(f"'{x.name}' is {np.dtype(x.dtype).name} of {len(x.shape)} axes")
    if node.attrs.get("antialias", 0) or text(node, "keep_aspect_ratio_policy", "stretch") != "stretch":
        raise Cannot("it has antialias or keeps the aspect ratio")
    if kind_of(node).coordinates not in COORDINATES:
        raise Cannot(f"coordinates are {kind_of(node).coordinates}")
    known = None if scales is None else small_constant(scales)
    if optional(node, 3) is None and known is None:
        raise Cannot("its scales are not constant")
    axes = list(node.attrs.get("axes", range(4)))
    if known is not None and known.size and any(v != 1 for v, a in zip(known, axes, strict=True) if a % 4 < 2):
        raise Cannot("it resizes other axes than the last two")
    y = node.outputs[0]
    if y.shape is None or len(y.shape) != 4:
        raise Cannot(f"the shape of '{y.name}' is unknown")


def _one_cell(node: gs.Node) -> bool:
    """Whether a side is known to shrink to one cell."""
    pairs = zip(node.inputs[0].shape[2:], node.outputs[0].shape[2:], strict=True)
    return any(after == 1 and before != 1 for before, after in pairs)


def _renamed(node: gs.Node) -> dict[str, object]:
    return {**node.attrs, "coordinate_transformation_mode": "pytorch_half_pixel"}


class Sides:
    """The sizes of a map before and after a Resize, as tensors. b: where their nodes go."""

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
        """Whether the side may get another size."""
        return axis in self.axes and (self.sizes is not None or self.scales[axis] != 1)

    def weights(self, axis: int, role: str, coordinates: str) -> gs.Tensor:
        """float[out, size] for axis 2, float[size, out] for axis 3."""
        b = self.b
        size = self._float(f"{role}_size", self._entry(f"{role}_side", self.before, axis))
        out, scale = self._out(role, axis, size)
        at = self._at(role, coordinates, size, out, scale)
        last = b.op("Sub", f"{role}_end", size, self._number(f"{role}_one", 1))
        at = b.op("Min", f"{role}_before", b.op("Relu", f"{role}_after", at), last)
        cells = self._range(f"{role}_cell", size)
        column, row = (at, cells) if axis == 2 else (cells, at)
        apart = b.op(
            "Sub", f"{role}_apart", b.unsqueeze(f"{role}_column", column, [1]), b.unsqueeze(f"{role}_row", row, [0])
        )
        rising = b.op("Add", f"{role}_rising", apart, self._number(f"{role}_full", 1))
        falling = b.op("Sub", f"{role}_falling", self._number(f"{role}_whole", 1), apart)
        return b.op("Relu", role, b.op("Min", f"{role}_hat", rising, falling))

    def _out(self, role: str, axis: int, size: gs.Tensor) -> tuple[gs.Tensor, gs.Tensor]:
        """The size after, and the scale; both float scalars."""
        b = self.b
        if self.sizes is not None:
            out = self._float(f"{role}_out", self._entry(f"{role}_wanted", self.sizes, self.axes.index(axis)))
            return out, b.op("Div", f"{role}_scale", out, size)
        scale = self._number(f"{role}_scale", self.scales[axis])
        return b.op("Floor", f"{role}_out", b.op("Mul", f"{role}_scaled", size, scale)), scale

    def _at(self, role: str, coordinates: str, size: gs.Tensor, out: gs.Tensor, scale: gs.Tensor) -> gs.Tensor:
        """float[out]: where each cell of the result reads."""
        b = self.b
        i = self._range(f"{role}_index", out)
        one, half = self._number(f"{role}_unit", 1), self._number(f"{role}_half", 0.5)
        if coordinates == "align_corners":
            gaps = b.op("Max", f"{role}_gaps", b.op("Sub", f"{role}_less", out, one), one)
            span = b.op("Sub", f"{role}_span", size, one)
            return b.op("Div", f"{role}_at", b.op("Mul", f"{role}_far", i, span), gaps)
        if coordinates == "asymmetric":
            return b.op("Div", f"{role}_at", i, scale)
        if coordinates == "half_pixel_symmetric" and self.sizes is None:
            raise Cannot("half_pixel_symmetric by scales on sides that are not static")
        middle = b.op("Div", f"{role}_middle", b.op("Add", f"{role}_centre", i, half), scale)
        at = b.op("Sub", f"{role}_at", middle, half)
        if coordinates != "pytorch_half_pixel":
            return at
        several = b.cast(f"{role}_several", b.op("Greater", f"{role}_more", out, one), FLOAT)
        return b.op("Mul", f"{role}_kept", at, several)

    def _range(self, role: str, count: gs.Tensor) -> gs.Tensor:
        """float[count]: 0, 1, 2, ..."""
        zero, one = self._number(f"{role}_zero", 0), self._number(f"{role}_step", 1)
        made = self.b.op("Range", role, zero, count, one)
        made.shape = [None]
        return made

    def _entry(self, role: str, of: gs.Tensor, at: int) -> gs.Tensor:
        return self.b.op("Gather", role, of, self.b.const(f"{role}_axis", at), axis=0)

    def _float(self, role: str, value: gs.Tensor) -> gs.Tensor:
        return self.b.cast(role, value, FLOAT)

    def _number(self, role: str, value: float) -> gs.Constant:
        return self.b.const(role, value, FLOAT)
