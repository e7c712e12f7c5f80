"""Let a runtime see only those kinds of Resize that it has: another spelling of the same, or matrix products.

A kind is a pair (mode, coordinate_transformation_mode). Along one axis of static size Resize is a matrix (see
interpolation.py), so two kinds are interchangeable where their matrices are equal, to the last bit:

    half_pixel  =  pytorch_half_pixel              where the result has more than one cell
    half_pixel  =  half_pixel_symmetric            where the model gives sizes, not scales
    nearest half_pixel  =  nearest asymmetric, floor   where the factor is a whole number; and so on
    any kind    =  any other                       where a side stays as it is

A Resize of a kind that is not allowed, and equals no allowed one, becomes two products with constant matrices:

    Resize(x)  ->  rows @ x @ cols

exact in real arithmetic. The matrices are dense: between 128 and 1024 cells a row a product costs more than the Resize,
which is why allowed kinds are left alone.

Must not fire: on integers (rounded differently), on sides of unknown size, where other axes than the last two change,
with antialias, with tf_crop_and_resize, with a policy that keeps the aspect ratio, and by a scale other than 1 that
leaves a side as it is, and for nearest half_pixel_symmetric (runtimes round differently there).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph import ir
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Builder, Cannot, rewrite, standard, text, typed
from segc.passes.support.edit import optional, small_constant
from segc.passes.support.resize_matrix import COORDINATES, ROUNDINGS, interpolation_matrix

Modes = frozenset[tuple[str, str]]
EVERYWHERE: Modes = frozenset({("nearest", "asymmetric"), ("linear", "half_pixel"), ("linear", "align_corners")})


@dataclass(frozen=True)
class Kind:
    """What a Resize does along an axis, but for the sizes."""

    mode: str
    coordinates: str
    rounding: str
    cubic_coeff_a: float
    exclude_outside: bool

    def matrix(self, size: int, out: int, scale: float | None) -> np.ndarray:
        """The weights of `size` cells in each of `out`."""
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


@dataclass(frozen=True)
class LegalizeResize(Pass):
    """Rewrite each Resize whose kind is not in `modes`, as one that is where they are equal, else as two MatMuls.

    modes: pairs of mode (nearest, linear, cubic) and coordinate_transformation_mode that the runtime has. roundings:
    the nearest_modes it has.
    """

    name: ClassVar[str] = "legalize-resize"
    algebra: ClassVar[str] = "Resize(x)  ->  Resize of an allowed kind where equal, else rows @ x @ cols"

    modes: Modes = EVERYWHERE
    roundings: tuple[str, ...] = ("floor",)

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each node where it stands."""
        sites = [n for n in standard(graph, "Resize") if not self.allows(kind_of(n))]
        return rewrite(graph, sites, partial(spelled, self), PassResult())

    def allows(self, kind: Kind) -> bool:
        """Whether the runtime has this kind."""
        has = (kind.mode, kind.coordinates) in self.modes
        return has and (kind.mode != "nearest" or kind.rounding in self.roundings)


def kind_of(node: gs.Node) -> Kind:
    """The kind of a Resize."""
    return Kind(
        text(node, "mode", "nearest"),
        text(node, "coordinate_transformation_mode", "half_pixel"),
        text(node, "nearest_mode", ROUNDINGS[0]),
        float(node.attrs.get("cubic_coeff_a", -0.75)),
        bool(node.attrs.get("exclude_outside", 0)),
    )


def spelled(step: LegalizeResize, b: Builder) -> gs.Tensor:
    """The new nodes for one site."""
    node, x, kind = b.node, b.node.inputs[0], kind_of(b.node)
    pairs = pairs_of(node)
    wanted = [kind.matrix(*pair) for pair in pairs]
    for other in alternatives(kind, step):
        if all(np.array_equal(other.matrix(*pair), want) for pair, want in zip(pairs, wanted, strict=True)):
            return b.op("Resize", "resized", *node.inputs, **attributes(node.attrs, kind, other))
    rows, cols = wanted
    y: gs.Tensor = x
    if not np.array_equal(cols, np.eye(len(cols))):
        y = b.op("MatMul", "across", y, b.const("cols", cols.T, x.dtype))
    if not np.array_equal(rows, np.eye(len(rows))):
        y = b.op("MatMul", "down", b.const("rows", rows, x.dtype), y)
    return y


def matrices_of(node: gs.Node) -> tuple[np.ndarray, np.ndarray]:
    """float64 rows (H, h) and columns (W, w) of a Resize of (..., h, w) to (..., H, W): rows @ x @ columns.T.

    Raises Cannot where it is no such pair.
    """
    kind = kind_of(node)
    rows, columns = (kind.matrix(*pair) for pair in pairs_of(node))
    return rows, columns


def pairs_of(node: gs.Node) -> list[tuple[int, int, float | None]]:
    """Size before and after, and the scale, of each of the last two axes. Raises Cannot where others change too."""
    before, after = sides(node)
    scales = scales_of(node, len(before))
    pairs = list(zip(before, after, scales, strict=True))
    if any(i == o and s not in (None, 1) for i, o, s in pairs):
        raise Cannot("a scale other than 1 leaves a side as it is")
    if any(i != o for i, o, _ in pairs[:-2]):
        raise Cannot("it resizes other axes than the last two")
    return pairs[-2:]


def sides(node: gs.Node) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The static shapes before and after. Raises Cannot where this pass does not apply."""
    x, y = node.inputs[0], node.outputs[0]
    typed(x)
    if np.dtype(x.dtype).kind != "f":
        raise Cannot(f"'{x.name}' is {np.dtype(x.dtype).name}")
    if node.attrs.get("antialias", 0):
        raise Cannot("it has antialias")
    if text(node, "keep_aspect_ratio_policy", "stretch") != "stretch":
        raise Cannot("it keeps the aspect ratio")
    if (where := text(node, "coordinate_transformation_mode", "half_pixel")) not in COORDINATES:
        raise Cannot(f"coordinates are {where}")
    before, after = ir.static_shape(x), ir.static_shape(y)
    if before is None or after is None:
        raise Cannot(f"'{(x if before is None else y).name}' has a side that is not static")
    if text(node, "mode", "nearest") == "nearest" and where == "half_pixel_symmetric":
        raise Cannot("where half_pixel_symmetric rounds to is not known")
    if len(before) < 2:
        raise Cannot(f"'{x.name}' has {len(before)} axes")
    return before, after


def scales_of(node: gs.Node, dims: int) -> list[float | None]:
    """The scale along each axis, None where the sizes say it."""
    if optional(node, 3) is not None:
        return [None] * dims
    given = optional(node, 2)
    values = None if given is None else small_constant(given)
    if values is None:
        raise Cannot("its scales are not constant")
    scales: list[float | None] = [1.0] * dims
    for axis, value in zip(node.attrs.get("axes", range(dims)), values, strict=True):
        scales[axis] = float(value)
    return scales


def alternatives(kind: Kind, step: LegalizeResize) -> Iterator[Kind]:
    """The allowed kinds of the same mode, those with the same rounding first."""
    for rounding in sorted(step.roundings, key=lambda r: r != kind.rounding):
        for coordinates in COORDINATES:
            other = replace(kind, coordinates=coordinates, rounding=rounding)
            unsure = (other.mode, other.coordinates) == ("nearest", "half_pixel_symmetric")
            if step.allows(other) and not unsure:
                yield other


def attributes(attrs: dict[str, Any], kind: Kind, other: Kind) -> dict[str, Any]:
    """The attributes of `other`, those that `kind` shares as they stood."""
    changed: dict[str, Any] = {"coordinate_transformation_mode": other.coordinates}
    if kind.mode == "nearest":
        changed["nearest_mode"] = other.rounding
    return {**attrs, **changed}
