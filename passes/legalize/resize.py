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

from segc.graph.invariants import FORM_RULES, PORTABLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Builder, rewrite, standard
from segc.passes.support.resize_kinds import EVERYWHERE, Kind, Modes, kind_of, pairs_of
from segc.passes.support.resize_matrix import COORDINATES


@dataclass(frozen=True)
class LegalizeResize(Pass):
    """Rewrite each Resize whose kind is not in `modes`, as one that is where they are equal, else as two MatMuls.

    modes: pairs of mode (nearest, linear, cubic) and coordinate_transformation_mode that the runtime has. roundings:
    the nearest_modes it has.
    """

    name: ClassVar[str] = "legalize-resize"
    algebra: ClassVar[str] = "Resize(x)  ->  Resize of an allowed kind where equal, else rows @ x @ cols"
    requires: ClassVar[frozenset[str]] = Pass.requires | {"no segc.ResizeArgMax"}
    ensures: ClassVar[frozenset[str]] = frozenset({"resizes legalized"})
    invalidates: ClassVar[frozenset[str]] = FORM_RULES | {PORTABLE, "types legalized"}

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
