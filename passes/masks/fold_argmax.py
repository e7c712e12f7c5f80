"""Hoist ArgMax above the ops before it: past monotonic ops, which are dropped, and past data movement, which sinks.

Dropped before ArgMax over axis a, all strictly increasing and the same function for every class: Softmax and LogSoftmax
over a; x * c and x / c for a constant c > 0; x + s and x - s where s is the same for all classes of a pixel; Sigmoid,
Tanh, Exp, Softplus, Softsign, Erf, Atan; LeakyRelu, Elu, Selu, Celu with positive slope. Exact in real arithmetic. In
floats these ops may round two different logits to one value, and the lowest index wins that tie even if the other logit
is larger. Without them the larger logit wins, so the result differs only where rounding hid the true winner.

Sunk below ArgMax, exactly: a nearest Resize, a Transpose, a Slice or Pad along other axes. Each copies whole pixels,
and copying one small integer is cheaper than copying C floats. If a Pad fills in one value for all classes, they tie,
so the map is filled with the index that wins a tie. A linear Resize followed by ArgMax is fused into one
segc.ResizeArgMax, which a runtime can compute without storing the large logits.

Must not fire: Relu, Clip, HardSigmoid and other functions that are constant somewhere (they make new ties); a negative
or zero factor; factors or shifts per class; Softmax over another axis, or before a linear Resize (the mean of
probabilities has another winner than the mean of logits); a Resize, Slice or Pad along the class axis; a Pad that fills
in NaN or a computed value; anything whose result is also used elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx
import onnx.helper
import onnx_graphsurgeon as gs

from segc.graph import dialect, ir
from segc.graph.invariants import PORTABLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.dtypes import dtype_of, holds
from segc.passes.support.edit import (
    Names,
    insert,
    ints,
    optional,
    protected,
    prune,
    rank,
    reaches,
    scalar,
    small_constant,
    squeeze,
)
from segc.passes.support.pads import pad_mode, pad_value, pads_of

INT64 = np.dtype(np.int64)
STRICTLY_INCREASING = frozenset({"Sigmoid", "Tanh", "Exp", "Softplus", "Softsign", "Erf", "Atan", "Selu", "Celu"})
SLOPE = {"LeakyRelu": 0.01, "Elu": 1.0}  # op -> default of alpha, which must be positive


@dataclass
class Site:
    """An ArgMax, the node before it, and the axis counted from the front."""

    graph: gs.Graph
    argmax: gs.Node
    before: gs.Node
    axis: int
    names: Names

    @property
    def reduced(self) -> gs.Tensor:
        """The tensor that the ArgMax reduces: the output of `before`."""
        return self.argmax.inputs[0]


Rule = Callable[[Site], str | None]  # rewrites the site and returns None, or returns the reason why it cannot


@dataclass(frozen=True)
class FoldArgMax(Pass):
    """Drop, sink or fuse the node before an ArgMax where the winner stays the same.

    fuse_resize: fuse linear Resize and ArgMax into segc.ResizeArgMax. On ties in floats see the module's text.
    """

    name: ClassVar[str] = "fold-argmax"
    algebra: ClassVar[str] = "ArgMax(increasing(x))  ->  ArgMax(x);  ArgMax(nearest(x))  ->  nearest(ArgMax(x))"
    requires: ClassVar[frozenset[str]] = Pass.requires | {PORTABLE, "convolutions hoisted"}
    ensures: ClassVar[frozenset[str]] = frozenset({"argmax folded"})
    invalidates: ClassVar[frozenset[str]] = frozenset({"no segc dialect", "no segc.ResizeArgMax", "identities removed"})

    fuse_resize: bool = True

    def run(self, graph: gs.Graph) -> PassResult:
        """Hoist each ArgMax as far as the rules allow."""
        result, names, protected_ids = PassResult(), Names(graph), protected(graph)
        for argmax in [n for n in graph.nodes if n.op == "ArgMax" and n.domain is None]:
            while (site := site_at(graph, argmax, names)) is not None:
                why = self._why_not(site, protected_ids) or RULES[site.before.op](site)
                if why is not None:
                    result.skip(argmax, why)
                    break
                prune(graph, site.before, protected_ids)
                result.changes += 1
        return result

    def _why_not(self, site: Site, protected_ids: set[int]) -> str | None:
        if id(site.reduced) in protected_ids:
            return f"'{site.reduced.name}' is also a graph output"
        if len(site.reduced.outputs) != 1:
            return f"'{site.reduced.name}' is also used elsewhere"
        if site.before.op == "Resize" and _mode(site.before) == "linear" and not self.fuse_resize:
            return "fusing a linear Resize is disabled"
        return None


def site_at(graph: gs.Graph, argmax: gs.Node, names: Names) -> Site | None:
    """The site at `argmax` if there is a rule for the node before it, otherwise None."""
    if not argmax.inputs or not argmax.inputs[0].inputs:
        return None
    before, dims = argmax.inputs[0].inputs[0], rank(argmax.inputs[0])
    if before.domain is not None or before.op not in RULES or dims is None:
        return None
    return Site(graph, argmax, before, argmax.attrs.get("axis", 0) % dims, names)


def drop_before(site: Site, index: int = 0) -> str | None:
    """Let the ArgMax read input `index` of the node before it. Returns None, as every rule that rewrote its site."""
    site.argmax.inputs = [site.before.inputs[index]]
    return None


def _softmax(site: Site) -> str | None:
    if site.graph.opset < 13:
        return f"{site.before.op} of opset {site.graph.opset} normalizes over several axes"
    dims = rank(site.reduced) or 1
    if (axis := site.before.attrs.get("axis", -1) % dims) != site.axis:
        return f"{site.before.op} is over axis {axis}, ArgMax over {site.axis}"
    return drop_before(site)


def _monotonic(site: Site) -> str | None:
    op = site.before.op
    if op in SLOPE and not site.before.attrs.get("alpha", SLOPE[op]) > 0:
        return f"{op} with alpha {site.before.attrs['alpha']} is not strictly increasing"
    if not site.before.attrs.get("gamma", 1.0) > 0 or not site.before.attrs.get("alpha", 1.0) > 0:
        return f"{op} with these coefficients is not strictly increasing"
    return drop_before(site)


def _not_monotonic(site: Site) -> str | None:
    return f"{site.before.op} is constant somewhere, which makes ties"


def _factor(site: Site) -> str | None:
    op, order = site.before.op, ((0, 1),) if site.before.op == "Div" else ((0, 1), (1, 0))
    for x, c in order:
        value = scalar(site.before.inputs[c])
        if value is None or not reaches(site.before.inputs[x].shape, site.before.inputs[c].shape):
            continue
        return drop_before(site, x) if 0 < value < math.inf else f"{op} by {value:g} is not strictly increasing"
    return f"{op} by something other than a positive scalar constant"


def _shift(site: Site) -> str | None:
    for x, s in ((0, 1),) if site.before.op == "Sub" else ((0, 1), (1, 0)):
        data, shift = site.before.inputs[x].shape, site.before.inputs[s].shape
        if not reaches(data, shift):
            continue
        class_axis = len(shift) - (len(data) - site.axis)
        value = small_constant(site.before.inputs[s])
        finite = value is None or bool(np.isfinite(value).all())
        if (class_axis < 0 or shift[class_axis] == 1) and finite:
            return drop_before(site, x)
    return f"{site.before.op} is not a shift by the same value for all classes of a pixel"


def _cast(site: Site) -> str | None:
    x, to = site.before.inputs[0], dtype_of(site.before.attrs["to"])
    return drop_before(site) if holds(to, dtype_of(x.dtype)) else "a Cast to a narrower type makes ties"


def _transpose(site: Site) -> str | None:
    dims = rank(site.reduced) or 0
    perm = list(site.before.attrs.get("perm", reversed(range(dims))))
    sink_below_argmax(site, perm[site.axis], [])
    return None


def _slice(site: Site) -> str | None:
    node = site.before
    axes = ints(optional(node, 3)) if "starts" not in node.attrs else list(node.attrs.get("axes", []))
    if not axes:
        return "the axes of the Slice are not constant"
    if site.axis in [a % (rank(site.reduced) or 1) for a in axes]:
        return "the Slice is along the class axis"
    sink_below_argmax(site, site.axis, list(node.inputs[1:]))
    return None


def _pad(site: Site) -> str | None:
    node, padding, mode = site.before, pads_of(site.before), pad_mode(site.before)
    dims, x = rank(site.reduced) or 1, site.before.inputs[0]
    if padding is None:
        return "the pads are not constant"
    if padding[site.axis] or padding[site.axis + dims]:
        return "the Pad is along the class axis"
    if site.graph.opset < 13:
        return f"Pad of opset {site.graph.opset} does not take small integers"
    others = list(node.inputs[1:])
    if mode == "constant":
        fill, classes = pad_value(node), x.shape[site.axis] if x.shape is not None else None
        if fill is None or math.isnan(fill):
            return "the Pad fills in NaN or a computed value"
        if not isinstance(classes, int):
            return "the number of classes is unknown"
        tie_winner = classes - 1 if site.argmax.attrs.get("select_last_index", 0) else 0
        constant = site.names.constant(site.argmax.outputs[0], "winner", np.array(tie_winner, small_type(classes)))
        others = [others[0], constant, *others[2:]]
    sink_below_argmax(site, site.axis, others)
    return None


def _resize(site: Site) -> str | None:
    node, mode = site.before, _mode(site.before)
    if node.attrs.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        return "tf_crop_and_resize may read beyond the map's edge"
    if node.attrs.get("keep_aspect_ratio_policy", "stretch") not in ("stretch", b"stretch"):
        return "the Resize keeps the aspect ratio"
    if mode == "nearest":
        return _resize_nearest(site)
    if mode == "linear":
        return _resize_linear(site)
    return f"the mode of the Resize is {mode}; only nearest and linear fold"


def _resize_nearest(site: Site) -> str | None:
    node, x, y = site.before, site.before.inputs[0], site.reduced
    if "axes" in node.attrs:
        if site.axis in [a % (rank(y) or 1) for a in node.attrs["axes"]]:
            return "the Resize is along the class axis"
        sink_below_argmax(site, site.axis, list(node.inputs[1:]))
        return None
    classes = x.shape[site.axis] if x.shape is not None else None
    if not isinstance(classes, int) or y.shape is None or y.shape[site.axis] != classes:
        return "Resize may change the number of classes"
    sizes = optional(node, 3)
    if sizes is None:
        factor = small_constant(node.inputs[2]) if len(node.inputs) > 2 else None
        if factor is None or factor[site.axis] != 1:
            return "the scales of the Resize are not constant, or not 1 for the class axis"
        sink_below_argmax(site, site.axis, list(node.inputs[1:]))
        return None
    sink_below_argmax(site, site.axis, [*node.inputs[1:3], _sizes_of_one_class(site, sizes, rank(y) or 0)])
    return None


def _sizes_of_one_class(site: Site, sizes: gs.Tensor, dims: int) -> gs.Tensor:
    """The sizes of a Resize with 1 for the class axis."""
    y = site.argmax.outputs[0]
    if (known := ints(sizes)) is not None:
        return site.names.constant(y, "sizes", [1 if axis == site.axis else s for axis, s in enumerate(known)])
    parts: list[gs.Tensor] = []
    if site.axis > 0:
        parts.append(slice_sizes(site, sizes, 0, site.axis, "outer"))
    parts.append(site.names.constant(y, "one", [1]))
    if site.axis + 1 < dims:
        parts.append(slice_sizes(site, sizes, site.axis + 1, dims, "inner"))
    new_sizes = site.names.variable(y, "sizes", INT64, [dims])
    insert(site.graph, site.argmax, [gs.Node("Concat", attrs={"axis": 0}, inputs=parts, outputs=[new_sizes])])
    return new_sizes


def slice_sizes(site: Site, sizes: gs.Tensor, start: int, end: int, role: str) -> gs.Variable:
    """The tensor sizes[start:end], computed in the graph."""
    y = site.argmax.outputs[0]
    part = site.names.variable(y, role, INT64, [end - start])
    edges = [site.names.constant(y, f"{role}_{what}", [at]) for what, at in (("start", start), ("end", end))]
    insert(site.graph, site.argmax, [gs.Node("Slice", inputs=[sizes, *edges], outputs=[part])])
    return part


def _resize_linear(site: Site) -> str | None:
    node, argmax, x, large = site.before, site.argmax, site.before.inputs[0], site.reduced
    if rank(x) != 4 or site.axis != 1:
        return "ArgMax is not over the channels of a (N, C, H, W) map"
    if argmax.attrs.get("select_last_index", 0):
        return "the last index wins a tie, in segc.ResizeArgMax the first"
    if node.attrs.get("antialias", 0):
        return "the Resize has antialias"
    size = _size(site, x, large)
    if isinstance(size, str):
        return size
    y = argmax.outputs[0]
    mode = node.attrs.get("coordinate_transformation_mode", "half_pixel")
    attrs = {"coordinate_transformation_mode": mode}
    fused = gs.Node("ResizeArgMax", domain=dialect.DOMAIN, attrs=attrs, inputs=[x, size])
    insert(site.graph, argmax, [fused, *_take_over_output(site, fused)])
    argmax.inputs.clear()
    site.graph.nodes = [n for n in site.graph.nodes if n is not argmax]
    assert y.inputs
    return None


def _take_over_output(site: Site, fused: gs.Node) -> list[gs.Node]:
    """Let `fused` write the output of the ArgMax, through a Squeeze if the ArgMax dropped the axis."""
    argmax, y, large = site.argmax, site.argmax.outputs[0], site.reduced
    argmax.outputs.clear()
    if argmax.attrs.get("keepdims", 1):
        fused.outputs = [y]
        return []
    shape = None if large.shape is None else [large.shape[0], 1, *large.shape[2:]]
    fused.outputs = [site.names.variable(y, "kept", INT64, shape)]
    return [squeeze(site.graph, fused.outputs[0], y, 1, site.names)]


def _size(site: Site, x: gs.Tensor, large: gs.Tensor) -> gs.Tensor | str:
    """[height, width] of a linear Resize that keeps batch and channels, otherwise the reason why not."""
    node, y = site.before, site.argmax.outputs[0]
    sizes, axes = optional(node, 3), node.attrs.get("axes")
    if axes is not None and [a % 4 for a in axes] != [2, 3]:
        return f"the Resize is along axes {list(axes)}"
    if sizes is None:
        return _size_from_scales(site, x, large)
    known = ints(sizes)
    if axes is not None:
        return site.names.constant(y, "size", known) if known is not None else sizes
    if x.shape is None or large.shape is None or not isinstance(x.shape[1], int) or x.shape[1] != large.shape[1]:
        return "Resize may change the number of classes"
    if known is not None:
        return site.names.constant(y, "size", known[2:])
    return slice_sizes(site, sizes, 2, 4, "size")


def _size_from_scales(site: Site, x: gs.Tensor, large: gs.Tensor) -> gs.Tensor | str:
    """[height, width] from scales, which equal sizes only if they are the quotients of the sizes, bit by bit."""
    scales = small_constant(site.before.inputs[2]) if len(site.before.inputs) > 2 else None
    before, after = ir.static_shape(x), ir.static_shape(large)
    if scales is None or before is None or after is None:
        return "the Resize has scales, and its sizes are not static"
    scales = scales if scales.size == 4 else np.concatenate([np.ones(2, np.float32), scales])
    quotient = np.array(after, np.float32) / np.array(before, np.float32)
    if before[:2] != after[:2] or not np.array_equal(scales, quotient):
        return "the scales of the Resize are not the quotients of the sizes"
    return site.names.constant(site.argmax.outputs[0], "size", list(after[2:]))


def small_type(classes: object) -> np.dtype[Any]:
    """uint8 up to 256 classes, otherwise int32 (which all runtimes resize)."""
    return np.dtype(np.uint8 if isinstance(classes, int) and classes <= 256 else np.int32)


def sink_below_argmax(site: Site, axis: int, others: list[gs.Tensor]) -> None:
    """ArgMax(move(x))  ->  Cast(move(Cast(ArgMax over `axis` of x), others)).

    The movement copies the index in a small type, see `small_type`.
    """
    argmax, move, y, x, large = site.argmax, site.before, site.argmax.outputs[0], site.before.inputs[0], site.reduced
    classes = x.shape[axis] if x.shape is not None else None
    small = small_type(classes)
    index_shape = None if x.shape is None else [1 if position == axis else s for position, s in enumerate(x.shape)]
    moved_shape = (
        None if large.shape is None else [1 if position == site.axis else s for position, s in enumerate(large.shape)]
    )
    index, narrow = (
        site.names.variable(y, "index", INT64, index_shape),
        site.names.variable(y, "narrow", small, index_shape),
    )
    moved = site.names.variable(y, "moved", small, moved_shape)
    argmax.outputs.clear()
    nodes = [
        gs.Node("Cast", attrs={"to": onnx.helper.np_dtype_to_tensor_dtype(small)}, inputs=[index], outputs=[narrow]),
        gs.Node(move.op, attrs=dict(move.attrs), inputs=[narrow, *others], outputs=[moved]),
    ]
    if not argmax.attrs.get("keepdims", 1):
        plane = site.names.variable(y, "plane", small, y.shape)
        nodes.append(squeeze(site.graph, moved, plane, site.axis, site.names))
        moved = plane
    nodes.append(gs.Node("Cast", attrs={"to": onnx.TensorProto.INT64}, inputs=[moved], outputs=[y]))
    argmax.inputs, argmax.outputs = [x], [index]
    argmax.attrs.update(axis=axis, keepdims=1)
    position = next(i for i, node in enumerate(site.graph.nodes) if node is argmax)
    site.graph.nodes[position + 1 : position + 1] = nodes


def _mode(node: gs.Node) -> str:
    mode = node.attrs.get("mode", "nearest")
    return mode.decode() if isinstance(mode, bytes) else str(mode)


RULES: dict[str, Rule] = {
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
    "Mul": _factor,
    "Div": _factor,
    "Add": _shift,
    "Sub": _shift,
    "Cast": _cast,
    "Transpose": _transpose,
    "Slice": _slice,
    "Pad": _pad,
    "Resize": _resize,
    **dict.fromkeys(sorted(STRICTLY_INCREASING | SLOPE.keys()), _monotonic),
    **dict.fromkeys(("Relu", "Clip", "HardSigmoid", "HardSwish", "ThresholdedRelu"), _not_monotonic),
}
