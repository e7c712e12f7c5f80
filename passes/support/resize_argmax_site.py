"""What the spellings of segc.ResizeArgMax share: the site, torch's interpolation weights, and what follows the node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph import dialect, ir
from segc.passes.base import PassResult
from segc.passes.masks.lower_resize_argmax import LowerResizeArgMax
from segc.passes.support.builder import Builder, Cannot, text
from segc.passes.support.edit import Names, ints, optional, protected
from segc.passes.support.resize_matrix import interpolation_matrix
from segc.runtime.resize import taps


@dataclass(frozen=True)
class Site:
    """x: float32 (batch, classes, height, width), resized to (out_height, out_width), all static."""

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
        """The smallest type that holds a class."""
        return np.dtype(np.uint8) if self.classes <= 256 else np.dtype(np.uint16)


Spell = Callable[[Builder, Site], gs.Tensor]  # to (batch, out_height, out_width) of the type `narrow`


def lower(graph: gs.Graph, spell: Spell) -> PassResult:
    """Spell every segc.ResizeArgMax with `spell`; where it raises Cannot, as Resize and ArgMax, and say why."""
    result, names, keep = PassResult(), Names(graph), protected(graph)
    for node in [n for n in graph.nodes if (n.domain, n.op) == (dialect.DOMAIN, dialect.RESIZE_ARGMAX)]:
        builder, followed = Builder(graph, node, names), followers(node, keep)
        builder.y = followed[-1].outputs[0] if followed else node.outputs[0]
        try:
            made = spell(builder, site_of(node))
        except Cannot as why:
            builder.discard()
            result.skip(node, str(why))
            continue
        if not followed:
            made = builder.unsqueeze("plane", made, [1])
        made = builder.cast("number", made, builder.y.dtype)
        for done in followed:
            done.inputs.clear()
            done.outputs.clear()
        graph.nodes = [n for n in graph.nodes if not any(n is done for done in followed)]
        builder.replace(made)
        result.changes += 1
    result.changes += LowerResizeArgMax().run(graph).changes
    return result


def site_of(node: gs.Node) -> Site:
    """What `node` does. Raises Cannot where a size is not static or the logits are not float32."""
    x, size = node.inputs[0], ints(node.inputs[1])
    shape = ir.static_shape(x)
    if shape is None or len(shape) != 4 or size is None:
        raise Cannot(f"'{x.name}', or what it is resized to, has no static size")
    if x.dtype != np.float32:
        raise Cannot(f"'{x.name}' is {x.dtype}")
    (n, c, h, w), (out_h, out_w) = shape, size
    return Site(x, n, c, h, w, out_h, out_w, text(node, "coordinate_transformation_mode", "half_pixel"))


def followers(node: gs.Node, keep: set[int]) -> list[gs.Node]:
    """The Squeeze of the channel axis that alone reads the node, and the Cast that alone reads that one."""
    squeeze = _only_user(node.outputs[0], "Squeeze", keep)
    if squeeze is None:
        return []
    axes = squeeze.attrs.get("axes", ints(optional(squeeze, 1)))
    if axes is None or list(axes) != [1]:
        return []
    cast = _only_user(squeeze.outputs[0], "Cast", keep)
    return [squeeze] if cast is None else [squeeze, cast]


def _only_user(tensor: gs.Tensor, op: str, keep: set[int]) -> gs.Node | None:
    if id(tensor) in keep or len(tensor.outputs) != 1 or tensor.outputs[0].op != op or tensor.outputs[0].domain:
        return None
    return tensor.outputs[0]


def weights(side: int, out: int, coordinates: str) -> np.ndarray:
    """float32[out, side]: a bilinear resize along one axis, with the very weights of torch where torch has the mode."""
    if coordinates == "align_corners" or (out > 1 and coordinates in ("half_pixel", "pytorch_half_pixel")):
        low, high, part = taps(side, out, coordinates == "align_corners")
        matrix = np.zeros((out, side), np.float32)
        np.add.at(matrix, (np.arange(out), low), 1 - part)
        np.add.at(matrix, (np.arange(out), high), part)
        return matrix
    return interpolation_matrix(side, out, "linear", coordinates).astype(np.float32)


def read(matrix: np.ndarray, start: int, stop: int) -> tuple[int, int]:
    """First and last + 1 of the cells that rows start to stop of an interpolation matrix read."""
    used = np.flatnonzero(matrix[start:stop].any(axis=0))
    return int(used[0]), int(used[-1]) + 1
