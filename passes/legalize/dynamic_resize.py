"""Legalize Resize for runtimes with some kinds only, on sides whose size is known only at run time.

legalize-resize compares interpolation matrices, which are unknown here. Two rewrites are possible all the same:

    half_pixel  =  pytorch_half_pixel      if the result has more than one cell, or the map has one

and a linear Resize of any coordinates is two products with matrices that the graph computes from the sizes,

    Resize(x)  ->  rows @ x @ cols,    rows[i, cell] = max(0, 1 - |source(i) - cell|)

where source(i) is the coordinate that cell i reads, clipped to the map. The weights are computed in float32, so they
are off by the rounding of source(i): about 1e-5 on maps of 200 cells.

`several` states that no side of unknown size is ever resized to one cell, as torch.export assumes for every dynamic
size. Without it half_pixel also becomes matrix products.

Must not fire: static sides, which belong to legalize-resize; kinds in `modes`; nearest and cubic of other coordinates;
scales other than 1 along axes other than the last two; antialias or tf_crop_and_resize; a rank other than four.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import onnx_graphsurgeon as gs

from segc.graph import ir
from segc.graph.invariants import FORM_RULES, PORTABLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Builder, RewriteNotApplicable, rewrite, standard
from segc.passes.support.resize_kinds import EVERYWHERE, Modes, kind_of
from segc.passes.support.resize_nodes import Sides, require_plain


@dataclass(frozen=True)
class LegalizeDynamicResize(Pass):
    """Rewrite each Resize whose kind is not in `modes`, on sides that are not static.

    modes: pairs of mode and coordinate_transformation_mode that the runtime has. several: no side of unknown size is
    resized to one cell.
    """

    name: ClassVar[str] = "legalize-dynamic-resize"
    algebra: ClassVar[str] = "Resize(x)  ->  Resize of an allowed kind, else rows @ x @ cols computed from the sizes"
    requires: ClassVar[frozenset[str]] = Pass.requires | {"no segc.ResizeArgMax"}
    ensures: ClassVar[frozenset[str]] = frozenset({"dynamic resizes legalized"})
    invalidates: ClassVar[frozenset[str]] = FORM_RULES | {PORTABLE, "types legalized"}

    modes: Modes = EVERYWHERE
    several: bool = False

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each node where it stands."""
        sites = [n for n in standard(graph, "Resize") if not _static(n) and not self._allows(n)]
        return rewrite(graph, sites, partial(legalize, self), PassResult())

    def _allows(self, node: gs.Node) -> bool:
        kind = kind_of(node)
        return (kind.mode, kind.coordinates) in self.modes


def _static(node: gs.Node) -> bool:
    return ir.static_shape(node.inputs[0]) is not None and ir.static_shape(node.outputs[0]) is not None


def legalize(step: LegalizeDynamicResize, b: Builder) -> gs.Tensor:
    """Build the nodes that replace one Resize. Raises RewriteNotApplicable."""
    node, kind = b.node, kind_of(b.node)
    require_plain(node)
    same = (kind.mode, "pytorch_half_pixel") in step.modes
    if step.several and kind.coordinates == "half_pixel" and same and not _shrinks_to_one_cell(node):
        return b.op("Resize", "resized", *node.inputs, **_as_pytorch_half_pixel(node))
    if kind.mode != "linear":
        raise RewriteNotApplicable(f"its kind is {kind.mode} {kind.coordinates}, on sides that are not static")
    y: gs.Tensor = node.inputs[0]
    sizes = Sides(b, node)
    if sizes.changes(3):
        y = b.op("MatMul", "across", y, sizes.weights(3, "cols", kind.coordinates))
    if sizes.changes(2):
        y = b.op("MatMul", "down", sizes.weights(2, "rows", kind.coordinates), y)
    y.shape = list(b.y.shape) if b.y.shape is not None else y.shape
    return y


def _shrinks_to_one_cell(node: gs.Node) -> bool:
    """Whether a side is known to shrink to one cell."""
    pairs = zip(node.inputs[0].shape[2:], node.outputs[0].shape[2:], strict=True)
    return any(after == 1 and before != 1 for before, after in pairs)


def _as_pytorch_half_pixel(node: gs.Node) -> dict[str, object]:
    return {**node.attrs, "coordinate_transformation_mode": "pytorch_half_pixel"}
