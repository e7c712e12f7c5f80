"""Helpers of the passes that lower segc.ResizeArgMax: the site, its followers, and torch's interpolation weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph import dialect, ir
from segc.passes.base import PassResult
from segc.passes.masks.lower_resize_argmax import LowerResizeArgMax
from segc.passes.support.builder import Builder, RewriteNotApplicable, text
from segc.passes.support.edit import Names, ints, optional, protected
from segc.passes.support.resize_matrix import interpolation_matrix
from segc.runtime.resize import taps


@dataclass(frozen=True)
class Site:
    """Logits x, float32 (batch, classes, height, width), become (out_height, out_width); all sizes are static."""

    x: gs.Tensor
    batch: int
    classes: int
    height: int
    width: int
    out_height: int
    out_width: int
    coordinates: str

    @property
    def narrow(self) -> np.dtype[np.uint8] | np.dtype[np.uint16]:
        """The smallest unsigned type that holds every class number."""
        return np.dtype(np.uint8) if self.classes <= 256 else np.dtype(np.uint16)


Lowering = Callable[[Builder, Site], gs.Tensor]  # builds a mask (batch, out_height, out_width) of the type `narrow`


def lower(graph: gs.Graph, lowering: Lowering) -> PassResult:
    """Replace every segc.ResizeArgMax by the nodes that `lowering` builds.

    Where it raises RewriteNotApplicable, Resize and ArgMax replace the node, and the result records the reason.
    """
    result, names, protected_ids = PassResult(), Names(graph), protected(graph)
    for node in [n for n in graph.nodes if (n.domain, n.op) == (dialect.DOMAIN, dialect.RESIZE_ARGMAX)]:
        builder, followed = Builder(graph, node, names), followers(node, protected_ids)
        builder.y = followed[-1].outputs[0] if followed else node.outputs[0]
        try:
            mask = lowering(builder, site_of(node))
        except RewriteNotApplicable as why:
            builder.discard()
            result.skip(node, str(why))
            continue
        if not followed:
            mask = builder.unsqueeze("plane", mask, [1])
        mask = builder.cast("number", mask, builder.y.dtype)
        for replaced in followed:
            replaced.inputs.clear()
            replaced.outputs.clear()
        graph.nodes = [n for n in graph.nodes if not any(n is replaced for replaced in followed)]
        builder.replace(mask)
        result.changes += 1
    result.changes += LowerResizeArgMax().run(graph).changes
    return result


def site_of(node: gs.Node) -> Site:
    """The site of one segc.ResizeArgMax. Raises RewriteNotApplicable unless sizes are static and logits float32."""
    x, size = node.inputs[0], ints(node.inputs[1])
    shape = ir.static_shape(x)
    if shape is None or len(shape) != 4 or size is None:
        raise RewriteNotApplicable(f"the shape of '{x.name}' or the size that it is resized to is not static")
    if x.dtype != np.float32:
        raise RewriteNotApplicable(f"'{x.name}' is {x.dtype}")
    (n, c, h, w), (out_h, out_w) = shape, size
    return Site(x, n, c, h, w, out_h, out_w, text(node, "coordinate_transformation_mode", "half_pixel"))


def followers(node: gs.Node, protected_ids: set[int]) -> list[gs.Node]:
    """The Squeeze of the channel axis, if it is the node's only user, and the Cast that is the only user of that."""
    squeeze = _only_user(node.outputs[0], "Squeeze", protected_ids)
    if squeeze is None:
        return []
    axes = squeeze.attrs.get("axes", ints(optional(squeeze, 1)))
    if axes is None or list(axes) != [1]:
        return []
    cast = _only_user(squeeze.outputs[0], "Cast", protected_ids)
    return [squeeze] if cast is None else [squeeze, cast]


def _only_user(tensor: gs.Tensor, op: str, protected_ids: set[int]) -> gs.Node | None:
    if id(tensor) in protected_ids or len(tensor.outputs) != 1:
        return None
    (user,) = tensor.outputs
    return user if user.op == op and not user.domain else None


def weights(side: int, out: int, coordinates: str) -> np.ndarray:
    """float32[out, side]: the matrix of a bilinear resize along one axis.

    Its weights are those of torch, bit for bit, in the coordinate modes that torch has.
    """
    if coordinates == "align_corners" or (out > 1 and coordinates in ("half_pixel", "pytorch_half_pixel")):
        low, high, part = taps(side, out, coordinates == "align_corners")
        matrix = np.zeros((out, side), np.float32)
        np.add.at(matrix, (np.arange(out), low), 1 - part)
        np.add.at(matrix, (np.arange(out), high), part)
        return matrix
    return interpolation_matrix(side, out, "linear", coordinates).astype(np.float32)


def read(matrix: np.ndarray, start: int, stop: int) -> tuple[int, int]:
    """The range [first, last + 1) of input cells that rows [start, stop) of an interpolation matrix read."""
    used = np.flatnonzero(matrix[start:stop].any(axis=0))
    return int(used[0]), int(used[-1]) + 1
