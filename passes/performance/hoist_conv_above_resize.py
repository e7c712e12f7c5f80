"""Take 1x1 convolutions to the small side of a Resize, where there are fewer pixels to compute.

Conv(Resize(x), W, b)                       ->  Resize(Conv(x, W, b))
Conv(Concat(Resize(x), y, ...), W, b)       ->  Resize(Conv(x, W_x)) + Conv(Concat(y, ...), W_y, b)

A 1x1 convolution mixes channels, linear and nearest interpolation mix pixels, and weights of interpolation sum to 1, so
that either order gives the same numbers but for rounding. SegFormer's head joins four resized maps and convolves them
at the largest size, which is half of the products of its smallest model; UNet, DPT, SETR and HRNet resize so as well.

Must not fire: convolutions that see more than a pixel, have groups, or weights that are computed; a Resize that is
used elsewhere, resizes more than height and width, weighs by a cubic, or reads beyond the edge; and where it would not
pay: the products saved must outweigh what more there is to interpolate and to add.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph.analysis.symbolic_sizes import estimate
from segc.graph.invariants import PORTABLE, REVEALED
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Builder, Cannot, rewrite, standard, text
from segc.passes.support.concat_conv import Part, convolved, cut, maker, tensors_of
from segc.passes.support.edit import ints, optional, protected, small_constant

# What an element costs, in products of a convolution: those are many to a load, the others hardly more than loads
_INTERPOLATION, _ADDITION = 100, 30


class HoistConvAboveResize(Pass):
    """Convolve before resizing, where that is less work. Cost: the weights of a joined convolution are cut."""

    name = "hoist-conv-above-resize"
    algebra = "Conv1x1(Resize(x))  ->  Resize(Conv1x1(x)), also behind a Concat of channels"
    requires = Pass.requires | {PORTABLE, "constants folded", "identities removed", "batchnorms fused"}
    ensures = frozenset({"convolutions hoisted"})
    invalidates = REVEALED

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each convolution where it stands."""
        keep = protected(graph)
        sites = [node for node in standard(graph, "Conv") if _resized(node)]
        return rewrite(graph, sites, lambda b: _Site(b, keep).spell(), PassResult())


def _resized(conv: gs.Node) -> bool:
    """Whether a 1x1 convolution reads a Resize, alone or among others."""
    weights = conv.inputs[1]
    if weights.shape is None or len(weights.shape) != 4 or tuple(weights.shape[2:]) != (1, 1):
        return False
    return any(maker(part, "Resize") for part in tensors_of(conv))


class _Site:
    """One convolution while it is spelled anew."""

    def __init__(self, b: Builder, keep: set[int]) -> None:
        self.b, self.conv, self.keep = b, b.node, keep
        self.bias = optional(self.conv, 2)

    def spell(self) -> gs.Tensor:
        """All nodes, to the convolution's output. Raises Cannot."""
        parts = self._cut()
        self.weights: np.ndarray = self.conv.inputs[1].values
        stay = [part for part in parts if part.resize is None]
        terms: list[gs.Tensor] = [convolved(self.b, stay, self.weights, self.bias)] if stay else []
        terms += [self._moved(part, first=not terms and at == 0) for at, part in enumerate(parts) if part.resize]
        total = terms[0]
        for at, term in enumerate(terms[1:]):
            total = self.b.op("Add", f"sum{at}", total, term)
        return total

    def _cut(self) -> list[Part]:
        """The parts of the input, and which of them move."""
        conv, tensors = self.conv, tensors_of(self.conv)
        if (why := _no_pointwise(conv)) is not None:
            raise Cannot(why)
        if tensors[0] is not conv.inputs[0] and (why := self._shared(conv.inputs[0])):
            raise Cannot(why)
        return cut(conv, self._stays)

    def _shared(self, tensor: gs.Tensor) -> str | None:
        elsewhere = id(tensor) in self.keep or len(tensor.outputs) != 1
        return f"'{tensor.name}' is also used elsewhere" if elsewhere else None

    def _stays(self, resize: gs.Node, width: int) -> str | None:
        """Why this Resize stays in front of the convolution."""
        x, y = resize.inputs[0], resize.outputs[0]
        if why := self._shared(y) or _other_kind(resize):
            return why
        sizes = [estimate(size) for tensor in (x, y) for size in (tensor.shape or [])[2:]]
        if len(sizes) != 4 or None in sizes:
            return f"how much '{y.name}' grows is unknown"
        before, after = math.prod(sizes[:2]), math.prod(sizes[2:])  # type: ignore[arg-type]
        wide = int(self.conv.inputs[1].shape[0])
        saved = width * wide * (after - before)
        more = _INTERPOLATION * (wide - width) * after
        if self.conv.inputs[0] is not y:
            more += _ADDITION * wide * after
        return None if saved > more else f"moving '{y.name}' saves less than it costs"

    def _moved(self, part: Part, first: bool) -> gs.Tensor:
        """Resize of the convolution of what was resized."""
        assert part.resize is not None
        role, old = f"moved{part.start}", part.resize
        small = self._conv(
            f"{role}_small", old.inputs[0], self.weights[:, part.start : part.stop], self.bias if first else None
        )
        rest = [optional(old, at) for at in (1, 2, 3)]
        if rest[2] is not None and "axes" not in old.attrs:
            rest[2] = self._sizes(role, rest[2])
        while rest and rest[-1] is None:
            rest.pop()
        resized = self.b.op("Resize", role, small, *rest, **old.attrs)
        y = old.outputs[0]
        resized.dtype, resized.shape = small.dtype, [y.shape[0], int(self.weights.shape[0]), *y.shape[2:]]
        return resized

    def _conv(self, role: str, x: gs.Tensor, weights: np.ndarray, bias: gs.Tensor | None) -> gs.Tensor:
        given = [] if bias is None else [bias]
        made = self.b.op("Conv", role, x, self.b.const(f"{role}_weights", weights), *given, **self.conv.attrs)
        made.dtype, made.shape = x.dtype, [x.shape[0], int(weights.shape[0]), *x.shape[2:]]
        return made

    def _sizes(self, role: str, sizes: gs.Tensor) -> gs.Tensor:
        """The sizes of the old Resize with the channels of the new one."""
        b, wide = self.b, int(self.weights.shape[0])
        if (known := ints(sizes)) is not None:
            return b.const(f"{role}_sizes", [known[0], wide, *known[2:]])
        batch, sides = (b.slice(f"{role}_{name}", sizes, [a], [z], [0]) for name, a, z in (("n", 0, 1), ("hw", 2, 4)))
        return b.op("Concat", f"{role}_sizes", batch, b.const(f"{role}_channels", [wide]), sides, axis=0)


def _no_pointwise(conv: gs.Node) -> str | None:
    """Why a convolution with a 1x1 kernel is more than a product at every pixel."""
    if not isinstance(conv.inputs[1], gs.Constant):
        return "its weights are computed"
    if conv.attrs.get("group", 1) != 1:
        return "it has groups"
    if any(side != 1 for side in conv.attrs.get("strides", ())) or any(conv.attrs.get("pads", ())):
        return "it has strides or pads"
    return "it pads" if text(conv, "auto_pad", "NOTSET") not in ("NOTSET", "VALID") else None


def _other_kind(resize: gs.Node) -> str | None:
    """Why a Resize is not one of height and width with weights that sum to 1."""
    name = resize.outputs[0].name
    if text(resize, "mode", "nearest") not in ("nearest", "linear"):
        return f"'{name}' is resized by another kernel than a linear one"
    if text(resize, "coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        return f"'{name}' may read beyond the edge"
    axes = resize.attrs.get("axes")
    if axes is not None:
        return None if sorted(axis % 4 for axis in axes) == [2, 3] else f"'{name}' is resized along other axes"
    scales, x, y = optional(resize, 2), resize.inputs[0], resize.outputs[0]
    if scales is not None:
        values = small_constant(scales)
        alike = values is not None and values.size == 4 and (values.ravel()[:2] == 1).all()
        return None if alike else f"'{name}' is resized by unknown factors"
    known = x.shape is not None and y.shape is not None and len(x.shape) == len(y.shape) == 4
    alike = known and x.shape[1] == y.shape[1] and (x.shape[0] == y.shape[0])
    return None if alike else f"whether '{name}' keeps batch and channels is unknown"
