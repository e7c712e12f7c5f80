"""Kinds of Resize (mode and coordinates), and the interpolation matrices of a Resize of static sides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph import ir
from segc.passes.support.builder import RewriteNotApplicable, text, typed
from segc.passes.support.edit import optional, small_constant
from segc.passes.support.resize_matrix import COORDINATES, ROUNDINGS, interpolation_matrix

Modes = frozenset[tuple[str, str]]


EVERYWHERE: Modes = frozenset({("nearest", "asymmetric"), ("linear", "half_pixel"), ("linear", "align_corners")})


@dataclass(frozen=True)
class Kind:
    """How a Resize interpolates along an axis, apart from the sizes."""

    mode: str
    coordinates: str
    rounding: str
    cubic_coeff_a: float
    exclude_outside: bool

    def matrix(self, size: int, out: int, scale: float | None) -> np.ndarray:
        """The interpolation matrix from `size` to `out` cells."""
        return interpolation_matrix(
            size,
            out,
            self.mode,
            self.coordinates,
            scale=scale,
            rounding=self.rounding,
            cubic_coeff_a=self.cubic_coeff_a,
            exclude_outside=self.exclude_outside,
        )


def kind_of(node: gs.Node) -> Kind:
    """The kind of a Resize."""
    return Kind(
        text(node, "mode", "nearest"),
        text(node, "coordinate_transformation_mode", "half_pixel"),
        text(node, "nearest_mode", ROUNDINGS[0]),
        float(node.attrs.get("cubic_coeff_a", -0.75)),
        bool(node.attrs.get("exclude_outside", 0)),
    )


def matrices_of(node: gs.Node) -> tuple[np.ndarray, np.ndarray]:
    """float64 rows (H, h) and columns (W, w) of a Resize of (..., h, w) to (..., H, W): rows @ x @ columns.T.

    Raises RewriteNotApplicable if it has no such matrices.
    """
    kind = kind_of(node)
    rows, columns = (kind.matrix(*pair) for pair in size_pairs(node))
    return rows, columns


def size_pairs(node: gs.Node) -> list[tuple[int, int, float | None]]:
    """Size before, size after and scale of each of the last two axes.

    Raises RewriteNotApplicable if other axes change.
    """
    before, after = static_shapes(node)
    scales = scales_of(node, len(before))
    pairs = list(zip(before, after, scales, strict=True))
    if any(i == o and s not in (None, 1) for i, o, s in pairs):
        raise RewriteNotApplicable("a scale other than 1 does not change its side")
    if any(i != o for i, o, _ in pairs[:-2]):
        raise RewriteNotApplicable("it resizes axes other than the last two")
    return pairs[-2:]


def static_shapes(node: gs.Node) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The static shapes before and after. Raises RewriteNotApplicable where this pass does not apply."""
    x, y = node.inputs[0], node.outputs[0]
    typed(x)
    if np.dtype(x.dtype).kind != "f":
        raise RewriteNotApplicable(f"'{x.name}' is {np.dtype(x.dtype).name}")
    if node.attrs.get("antialias", 0):
        raise RewriteNotApplicable("it has antialias")
    if text(node, "keep_aspect_ratio_policy", "stretch") != "stretch":
        raise RewriteNotApplicable("it keeps the aspect ratio")
    if (where := text(node, "coordinate_transformation_mode", "half_pixel")) not in COORDINATES:
        raise RewriteNotApplicable(f"its coordinate mode is {where}")
    before, after = ir.static_shape(x), ir.static_shape(y)
    if before is None or after is None:
        raise RewriteNotApplicable(f"'{(x if before is None else y).name}' has a side that is not static")
    if text(node, "mode", "nearest") == "nearest" and where == "half_pixel_symmetric":
        raise RewriteNotApplicable("the rounding of nearest half_pixel_symmetric is not defined")
    if len(before) < 2:
        raise RewriteNotApplicable(f"'{x.name}' has {len(before)} axes")
    return before, after


def scales_of(node: gs.Node, dims: int) -> list[float | None]:
    """The scale along each axis, None if the node gives sizes."""
    if optional(node, 3) is not None:
        return [None] * dims
    given = optional(node, 2)
    values = None if given is None else small_constant(given)
    if values is None:
        raise RewriteNotApplicable("its scales are not constant")
    scales: list[float | None] = [1.0] * dims
    for axis, value in zip(node.attrs.get("axes", range(dims)), values, strict=True):
        scales[axis] = float(value)
    return scales
