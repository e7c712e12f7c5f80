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

import onnx_graphsurgeon as gs

from segc.graph import ir
from segc.graph.invariants import FORM_RULES, PORTABLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Builder, Cannot, rewrite, standard
from segc.passes.support.resize_kinds import EVERYWHERE, Modes, kind_of
from segc.passes.support.resize_nodes import Sides, require_plain


@dataclass(frozen=True)
class LegalizeDynamicResize(Pass):
    """Rewrite each Resize of a kind that is not in `modes`, on sides that are not static.

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


def _one_cell(node: gs.Node) -> bool:
    """Whether a side is known to shrink to one cell."""
    pairs = zip(node.inputs[0].shape[2:], node.outputs[0].shape[2:], strict=True)
    return any(after == 1 and before != 1 for before, after in pairs)


def _renamed(node: gs.Node) -> dict[str, object]:
    return {**node.attrs, "coordinate_transformation_mode": "pytorch_half_pixel"}
