"""Legalize Resize for runtimes with some kinds only: as an equal kind that they have, or as matrix products.

A kind is a pair (mode, coordinate_transformation_mode). Along one axis of static size a Resize is a matrix (see
support/resize_matrix.py), so two kinds are interchangeable if their matrices are equal, to the last bit:

    half_pixel  =  pytorch_half_pixel              if the result has more than one cell
    half_pixel  =  half_pixel_symmetric            if the model gives sizes, not scales
    nearest half_pixel  =  nearest asymmetric, floor   if the factor is an integer; and so on
    any kind    =  any other                       if the side keeps its size

A Resize whose kind is neither allowed nor equal to an allowed one becomes two products with constant matrices:

    Resize(x)  ->  rows @ x @ cols

Exact in real arithmetic. The matrices are dense: at 128 to 1024 cells per row a product costs more than a Resize, so
allowed kinds stay.

Must not fire: integers (they round differently); sides of unknown size; changes of axes other than the last two;
antialias; tf_crop_and_resize; a policy that keeps the aspect ratio; a scale other than 1 that does not change the side;
nearest half_pixel_symmetric (runtimes round it differently).
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
from segc.passes.support.resize_kinds import EVERYWHERE, Kind, Modes, kind_of, size_pairs
from segc.passes.support.resize_matrix import COORDINATES


@dataclass(frozen=True)
class LegalizeResize(Pass):
    """Rewrite each Resize whose kind is not in `modes`: as an equal kind that is, else as two MatMuls.

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
        return rewrite(graph, sites, partial(legalize, self), PassResult())

    def allows(self, kind: Kind) -> bool:
        """Whether the runtime has this kind."""
        allowed = (kind.mode, kind.coordinates) in self.modes
        return allowed and (kind.mode != "nearest" or kind.rounding in self.roundings)


def legalize(options: LegalizeResize, b: Builder) -> gs.Tensor:
    """Build the nodes that replace one Resize. Raises RewriteNotApplicable."""
    node, x, kind = b.node, b.node.inputs[0], kind_of(b.node)
    pairs = size_pairs(node)
    matrices = [kind.matrix(*pair) for pair in pairs]
    for other in alternatives(kind, options):
        if all(np.array_equal(other.matrix(*pair), want) for pair, want in zip(pairs, matrices, strict=True)):
            return b.op("Resize", "resized", *node.inputs, **attributes(node.attrs, kind, other))
    rows, cols = matrices
    y: gs.Tensor = x
    if not np.array_equal(cols, np.eye(len(cols))):
        y = b.op("MatMul", "across", y, b.const("cols", cols.T, x.dtype))
    if not np.array_equal(rows, np.eye(len(rows))):
        y = b.op("MatMul", "down", b.const("rows", rows, x.dtype), y)
    return y


def alternatives(kind: Kind, options: LegalizeResize) -> Iterator[Kind]:
    """The allowed kinds of the same mode, those with the same rounding first."""
    for rounding in sorted(options.roundings, key=lambda r: r != kind.rounding):
        for coordinates in COORDINATES:
            other = replace(kind, coordinates=coordinates, rounding=rounding)
            undefined = (other.mode, other.coordinates) == ("nearest", "half_pixel_symmetric")
            if options.allows(other) and not undefined:
                yield other


def attributes(attrs: dict[str, Any], kind: Kind, other: Kind) -> dict[str, Any]:
    """`attrs`, of a Resize of `kind`, with the changes that make it `other`."""
    changed: dict[str, Any] = {"coordinate_transformation_mode": other.coordinates}
    if kind.mode == "nearest":
        changed["nearest_mode"] = other.rounding
    return {**attrs, **changed}
