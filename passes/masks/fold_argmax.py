"""Let ArgMax see its winner earlier: drop what cannot change it, move it before what only moves pixels.

Dropped before ArgMax over axis a, all strictly increasing and alike for every class: Softmax and LogSoftmax over a;
x * c and x / c for a constant c > 0; x + s and x - s where s is the same for all classes of a pixel; Sigmoid, Tanh,
Exp, Softplus, Softsign, Erf, Atan, and LeakyRelu, Elu, Selu, Celu with positive slope. Exact in real arithmetic. In
floats these may round two different logits to one value, a tie that the lowest index wins whatever the truth; without
them the larger logit wins. So the result may differ from the former only where rounding had hidden the true winner.

Moved behind ArgMax, exactly: a nearest Resize, a Transpose, a Slice or Pad along other axes; each copies whole pixels,
and copying one small integer is cheaper than copying C floats. Where a Pad fills in one value for all classes they
tie, so the map is filled with the index that wins a tie. A linear Resize followed by ArgMax becomes one
segc.ResizeArgMax, which a runtime may do without ever storing the large logits.

Must not fire: Relu, Clip, HardSigmoid and other functions that are flat somewhere (they make ties of their own);
a negative or zero factor; factors or shifts per class; Softmax over another axis, or before a linear Resize (the mean
of probabilities has another winner than the mean of logits); a Resize, Slice or Pad along the class axis; a Pad that
fills in NaN or a computed value; and anything whose result is also used elsewhere.
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
from segc.passes.base import Pass, PassResult
from segc.passes.cleanup.merge_pads import mode, pads, value
from segc.passes.cleanup.remove_identities import dtype_of, holds
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
    def between(self) -> gs.Tensor:
        """The tensor from `before` to the ArgMax."""
        return self.argmax.inputs[0]


Rule = Callable[[Site], str | None]  # None: done; otherwise the reason why not


@dataclass(frozen=True)
class FoldArgMax(Pass):
    """Drop or move what stands before an ArgMax, where the winner stays the same.

    fuse_resize: make linear Resize and ArgMax one segc.ResizeArgMax. See the module for what float ties do.
    """

    name: ClassVar[str] = "fold-argmax"
    algebra: ClassVar[str] = "ArgMax(increasing(x))  ->  ArgMax(x);  ArgMax(nearest(x))  ->  nearest(ArgMax(x))"
    drops: ClassVar[frozenset[str]] = frozenset({"no segc dialect", "no segc.ResizeArgMax"})

    fuse_resize: bool = True

    def run(self, graph: gs.Graph) -> PassResult:
        """Fold upwards from each ArgMax as far as it goes."""
        result, names, keep = PassResult(), Names(graph), protected(graph)
        for argmax in [n for n in graph.nodes if n.op == "ArgMax" and n.domain is None]:
            while (site := find(graph, argmax, names)) is not None:
                why = self._blocked(site, keep) or RULES[site.before.op](site)
                if why is not None:
                    result.skip(argmax, why)
                    break
                prune(graph, site.before, keep)
                result.changes += 1
        return result

    def _blocked(self, site: Site, keep: set[int]) -> str | None:
        if id(site.between) in keep:
            return f"'{site.between.name}' is also a graph output"
        if len(site.between.outputs) != 1:
            return f"'{site.between.name}' is also used elsewhere"
        if site.before.op == "Resize" and _mode(site.before) == "linear" and not self.fuse_resize:
            return "fusing a linear Resize is switched off"
        return None


def find(graph: gs.Graph, argmax: gs.Node, names: Names) -> Site | None:
    """The site at `argmax` when a rule knows the node before it."""
    if not argmax.inputs or not argmax.inputs[0].inputs:
        return None
    before, dims = argmax.inputs[0].inputs[0], rank(argmax.inputs[0])
    if before.domain is not None or before.op not in RULES or dims is None:
        return None
    return Site(graph, argmax, before, argmax.attrs.get("axis", 0) % dims, names)


def drop(site: Site, at: int = 0) -> str | None:
    """Let the ArgMax read input number `at` of the node before it. Returns what a rule returns for "done"."""
    site.argmax.inputs = [site.before.inputs[at]]
    return None


def _softmax(site: Site) -> str | None:
    if site.graph.opset < 13:
        return f"{site.before.op} of opset {site.graph.opset} normalises over several axes"
    dims = rank(site.between) or 1
    if (axis := site.before.attrs.get("axis", -1) % dims) != site.axis:
        return f"{site.before.op} is over axis {axis}, ArgMax over {site.axis}"
    return drop(site)


def _increasing(site: Site) -> str | None:
    op = site.before.op
    if op in SLOPE and not site.before.attrs.get("alpha", SLOPE[op]) > 0:
        return f"{op} with alpha {site.before.attrs['alpha']} is not strictly increasing"
    if not site.before.attrs.get("gamma", 1.0) > 0 or not site.before.attrs.get("alpha", 1.0) > 0:
        return f"{op} with these coefficients is not strictly increasing"
    return drop(site)


def _flat(site: Site) -> str | None:
    return f"{site.before.op} is flat somewhere and makes ties"


def _factor(site: Site) -> str | None:
    op, order = site.before.op, ((0, 1),) if site.before.op == "Div" else ((0, 1), (1, 0))
    for x, c in order:
        value = scalar(site.before.inputs[c])
        if value is None or not reaches(site.before.inputs[x].shape, site.before.inputs[c].shape):
            continue
        return drop(site, x) if 0 < value < math.inf else f"{op} by {value:g} is not strictly increasing"
    return f"{op} by something else than a positive scalar constant"


def _shift(site: Site) -> str | None:
    for x, s in ((0, 1),) if site.before.op == "Sub" else ((0, 1), (1, 0)):
        data, shift = site.before.inputs[x].shape, site.before.inputs[s].shape
        if not reaches(data, shift):
            continue
        at = len(shift) - (len(data) - site.axis)
        value = small_constant(site.before.inputs[s])
        finite = value is None or bool(np.isfinite(value).all())
        if (at < 0 or shift[at] == 1) and finite:
            return drop(site, x)
    return f"{site.before.op} is not a shift that all classes of a pixel share"


def _widening(site: Site) -> str | None:
    x, to = site.before.inputs[0], dtype_of(site.before.attrs["to"])
    return drop(site) if holds(to, dtype_of(x.dtype)) else "Cast to a narrower type makes ties"


def _transpose(site: Site) -> str | None:
    dims = rank(site.between) or 0
    perm = list(site.before.attrs.get("perm", reversed(range(dims))))
    sink(site, perm[site.axis], [])
    return None


def _slice(site: Site) -> str | None:
    node = site.before
    axes = ints(optional(node, 3)) if "starts" not in node.attrs else list(node.attrs.get("axes", []))
    if not axes:
        return "Slice along axes that are not constant"
    if site.axis in [a % (rank(site.between) or 1) for a in axes]:
        return "Slice along the class axis"
    sink(site, site.axis, list(node.inputs[1:]))
    return None


def _pad(site: Site) -> str | None:
    node, added, filled = site.before, pads(site.before), mode(site.before)
    dims, x = rank(site.between) or 1, site.before.inputs[0]
    if added is None:
        return "Pad by amounts that are not constant"
    if added[site.axis] or added[site.axis + dims]:
        return "Pad along the class axis"
    if site.graph.opset < 13:
        return f"Pad of opset {site.graph.opset} may not take small integers"
    others = list(node.inputs[1:])
    if filled == "constant":
        fill, classes = value(node), x.shape[site.axis] if x.shape is not None else None
        if fill is None or math.isnan(fill):
            return "Pad fills in a value that is not constant, or NaN"
        if not isinstance(classes, int):
            return "Pad of an unknown number of classes"
        winner = classes - 1 if site.argmax.attrs.get("select_last_index", 0) else 0
        constant = site.names.constant(site.argmax.outputs[0], "winner", np.array(winner, small_type(classes)))
        others = [others[0], constant, *others[2:]]
    sink(site, site.axis, others)
    return None


def _resize(site: Site) -> str | None:
    node, mode = site.before, _mode(site.before)
    if node.attrs.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        return "tf_crop_and_resize may read beyond the map"
    if node.attrs.get("keep_aspect_ratio_policy", "stretch") not in ("stretch", b"stretch"):
        return "Resize keeps the aspect ratio"
    if mode == "nearest":
        return _resize_nearest(site)
    if mode == "linear":
        return _resize_linear(site)
    return f"Resize is {mode}, only nearest and linear are folded"


def _resize_nearest(site: Site) -> str | None:
    node, x, y = site.before, site.before.inputs[0], site.between
    if "axes" in node.attrs:
        if site.axis in [a % (rank(y) or 1) for a in node.attrs["axes"]]:
            return "Resize along the class axis"
        sink(site, site.axis, list(node.inputs[1:]))
        return None
    classes = x.shape[site.axis] if x.shape is not None else None
    if not isinstance(classes, int) or y.shape is None or y.shape[site.axis] != classes:
        return "Resize may change the number of classes"
    sizes = optional(node, 3)
    if sizes is None:
        factor = small_constant(node.inputs[2]) if len(node.inputs) > 2 else None
        if factor is None or factor[site.axis] != 1:
            return "Resize by scales that are not constant, or not 1 for the class axis"
        sink(site, site.axis, list(node.inputs[1:]))
        return None
    sink(site, site.axis, [*node.inputs[1:3], _with_one(site, sizes, rank(y) or 0)])
    return None


def _with_one(site: Site, sizes: gs.Tensor, dims: int) -> gs.Tensor:
    """The same sizes but 1 for the class axis."""
    y = site.argmax.outputs[0]
    if (known := ints(sizes)) is not None:
        return site.names.constant(y, "sizes", [1 if at == site.axis else s for at, s in enumerate(known)])
    parts: list[gs.Tensor] = []
    if site.axis > 0:
        parts.append(cut(site, sizes, 0, site.axis, "outer"))
    parts.append(site.names.constant(y, "one", [1]))
    if site.axis + 1 < dims:
        parts.append(cut(site, sizes, site.axis + 1, dims, "inner"))
    whole = site.names.variable(y, "sizes", INT64, [dims])
    insert(site.graph, site.argmax, [gs.Node("Concat", attrs={"axis": 0}, inputs=parts, outputs=[whole])])
    return whole


def cut(site: Site, sizes: gs.Tensor, start: int, end: int, role: str) -> gs.Variable:
    """sizes[start:end], computed in the graph."""
    y = site.argmax.outputs[0]
    made = site.names.variable(y, role, INT64, [end - start])
    edges = [site.names.constant(y, f"{role}_{what}", [at]) for what, at in (("start", start), ("end", end))]
    insert(site.graph, site.argmax, [gs.Node("Slice", inputs=[sizes, *edges], outputs=[made])])
    return made


def _resize_linear(site: Site) -> str | None:
    node, argmax, x, large = site.before, site.argmax, site.before.inputs[0], site.between
    if rank(x) != 4 or site.axis != 1:
        return "ArgMax is not over the channels of a (N, C, H, W) map"
    if argmax.attrs.get("select_last_index", 0):
        return "the last index wins a tie"
    if node.attrs.get("antialias", 0):
        return "Resize has antialias"
    size = _size(site, x, large)
    if isinstance(size, str):
        return size
    y = argmax.outputs[0]
    mode = node.attrs.get("coordinate_transformation_mode", "half_pixel")
    attrs = {"coordinate_transformation_mode": mode}
    fused = gs.Node("ResizeArgMax", domain=dialect.DOMAIN, attrs=attrs, inputs=[x, size])
    insert(site.graph, argmax, [fused, *_squeezed(site, fused)])
    argmax.inputs.clear()
    site.graph.nodes = [n for n in site.graph.nodes if n is not argmax]
    assert y.inputs
    return None


def _squeezed(site: Site, fused: gs.Node) -> list[gs.Node]:
    """Give `fused` the ArgMax's output, behind a Squeeze where the ArgMax dropped the axis."""
    argmax, y, large = site.argmax, site.argmax.outputs[0], site.between
    argmax.outputs.clear()
    if argmax.attrs.get("keepdims", 1):
        fused.outputs = [y]
        return []
    shape = None if large.shape is None else [large.shape[0], 1, *large.shape[2:]]
    fused.outputs = [site.names.variable(y, "kept", INT64, shape)]
    return [squeeze(site.graph, fused.outputs[0], y, 1, site.names)]


def _size(site: Site, x: gs.Tensor, large: gs.Tensor) -> gs.Tensor | str:
    """[height, width] of a linear Resize that leaves batch and channels alone, otherwise the reason why not."""
    node, y = site.before, site.argmax.outputs[0]
    sizes, axes = optional(node, 3), node.attrs.get("axes")
    if axes is not None and [a % 4 for a in axes] != [2, 3]:
        return f"Resize along axes {list(axes)}"
    if sizes is None:
        return _size_from_scales(site, x, large)
    known = ints(sizes)
    if axes is not None:
        return site.names.constant(y, "size", known) if known is not None else sizes
    if x.shape is None or large.shape is None or not isinstance(x.shape[1], int) or x.shape[1] != large.shape[1]:
        return "Resize may change the number of classes"
    if known is not None:
        return site.names.constant(y, "size", known[2:])
    return cut(site, sizes, 2, 4, "size")


def _size_from_scales(site: Site, x: gs.Tensor, large: gs.Tensor) -> gs.Tensor | str:
    """Scales say the same as sizes only where they are the quotient of the sizes, to the last bit."""
    scales = small_constant(site.before.inputs[2]) if len(site.before.inputs) > 2 else None
    before, after = ir.static_shape(x), ir.static_shape(large)
    if scales is None or before is None or after is None:
        return "Resize by scales, with sizes that are not static"
    scales = scales if scales.size == 4 else np.concatenate([np.ones(2, np.float32), scales])
    quotient = np.array(after, np.float32) / np.array(before, np.float32)
    if before[:2] != after[:2] or not np.array_equal(scales, quotient):
        return "Resize by scales that are not the quotient of the sizes"
    return site.names.constant(site.argmax.outputs[0], "size", list(after[2:]))


def small_type(classes: object) -> np.dtype[Any]:
    """uint8 up to 256 classes, otherwise int32 (which all runtimes resize)."""
    return np.dtype(np.uint8 if isinstance(classes, int) and classes <= 256 else np.int32)


def sink(site: Site, axis: int, others: list[gs.Tensor]) -> None:
    """ArgMax(move(x))  ->  Cast(move(Cast(ArgMax over `axis` of x), others)).

    The index moves in the smallest type, see `small_type`.
    """
    argmax, move, y, x, large = site.argmax, site.before, site.argmax.outputs[0], site.before.inputs[0], site.between
    classes = x.shape[axis] if x.shape is not None else None
    small = small_type(classes)
    one = None if x.shape is None else [1 if at == axis else s for at, s in enumerate(x.shape)]
    moved_shape = None if large.shape is None else [1 if at == site.axis else s for at, s in enumerate(large.shape)]
    index, narrow = site.names.variable(y, "index", INT64, one), site.names.variable(y, "narrow", small, one)
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
    at = next(i for i, node in enumerate(site.graph.nodes) if node is argmax)
    site.graph.nodes[at + 1 : at + 1] = nodes


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
    "Cast": _widening,
    "Transpose": _transpose,
    "Slice": _slice,
    "Pad": _pad,
    "Resize": _resize,
    **dict.fromkeys(sorted(STRICTLY_INCREASING | SLOPE.keys()), _increasing),
    **dict.fromkeys(("Relu", "Clip", "HardSigmoid", "HardSwish", "ThresholdedRelu"), _flat),
}
