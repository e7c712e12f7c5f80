"""Hoist 1x1 convolutions above a Resize, where there are fewer pixels to compute.

Conv(Resize(x), W, b)                       ->  Resize(Conv(x, W, b))
Conv(Concat(Resize(x), y, ...), W, b)       ->  Resize(Conv(x, W_x)) + Conv(Concat(y, ...), W_y, b)

A 1x1 convolution mixes channels, linear and nearest interpolation mix pixels, and the weights of an interpolation sum
to 1, so both orders give the same numbers except for rounding. SegFormer's head concatenates four resized maps and
convolves them at the largest size, which takes half of the multiplications of its smallest model; UNet, DPT, SETR and
HRNet contain the same pattern.

Must not fire: kernels larger than 1x1, groups, or computed weights; a Resize that is used elsewhere, resizes more than
height and width, is cubic, or reads beyond the edge; and where it would not pay: the multiplications saved must
outweigh the additional interpolation and additions.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph.analysis.symbolic_sizes import estimate
from segc.graph.invariants import PORTABLE, REVEALED
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Builder, RewriteNotApplicable, rewrite, standard, text
from segc.passes.support.concat_conv import Part, concat_inputs, conv_of_parts, producer_of, split_parts
from segc.passes.support.edit import ints, optional, protected, small_constant

# Cost of an element relative to a multiplication of a convolution, which does many per load; these are memory-bound
_INTERPOLATION, _ADDITION = 100, 30


class HoistConvAboveResize(Pass):
    """Convolve before resizing where that is less work. Cost: slicing the weights of a convolution over a Concat."""

    name = "hoist-conv-above-resize"
    algebra = "Conv1x1(Resize(x))  ->  Resize(Conv1x1(x)), also after a Concat of channels"
    requires = Pass.requires | {
        PORTABLE, "constants folded", "identities removed", "lowerings merged", "batchnorms fused"
    }  # fmt: skip
    ensures = frozenset({"convolutions hoisted"})
    invalidates = REVEALED

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each convolution where it stands, and again those that then stand behind another Resize."""
        changes = 0
        while (result := _once(graph)).changes:
            changes += result.changes
            graph.cleanup()  # what was moved still reads the map above it, and counts as a user
        return replace(result, changes=changes)


def _once(graph: gs.Graph) -> PassResult:
    protected_ids = protected(graph)
    sites = [node for node in standard(graph, "Conv") if _reads_resize(node)]
    return rewrite(graph, sites, lambda b: _Hoist(b, protected_ids).build(), PassResult())


def _reads_resize(conv: gs.Node) -> bool:
    """Whether a 1x1 convolution reads a Resize, directly or through a Concat."""
    weights = conv.inputs[1]
    if weights.shape is None or tuple(weights.shape[2:]) != (1, 1):
        return False
    return any(producer_of(part, "Resize") for part in concat_inputs(conv))


class _Hoist:
    """Builds the nodes that replace one convolution."""

    def __init__(self, b: Builder, protected_ids: set[int]) -> None:
        self.b, self.conv, self.protected_ids = b, b.node, protected_ids
        self.bias = optional(self.conv, 2)

    def build(self) -> gs.Tensor:
        """Build all nodes; returns the tensor that replaces the output. Raises RewriteNotApplicable."""
        parts = self._split_parts()
        self.weights: np.ndarray = self.conv.inputs[1].values
        unresized = [part for part in parts if part.resize is None]
        terms: list[gs.Tensor] = [conv_of_parts(self.b, unresized, self.weights, self.bias)] if unresized else []
        terms += [
            self._resize_of_conv(part, first=not terms and index == 0)
            for index, part in enumerate(parts)
            if part.resize
        ]
        total = terms[0]
        for index, term in enumerate(terms[1:]):
            total = self.b.op("Add", f"sum{index}", total, term)
        return total

    def _split_parts(self) -> list[Part]:
        """The parts of the input; those with a Resize move below the convolution. Raises RewriteNotApplicable."""
        conv = self.conv
        if (why := _why_not_pointwise(conv)) is not None:
            raise RewriteNotApplicable(why)
        if why := self._why_shared(conv.inputs[0]):
            raise RewriteNotApplicable(why)
        return split_parts(conv, self._why_stays)

    def _why_shared(self, tensor: gs.Tensor) -> str | None:
        elsewhere = id(tensor) in self.protected_ids or len(tensor.outputs) != 1
        return f"'{tensor.name}' is also used elsewhere" if elsewhere else None

    def _why_stays(self, resize: gs.Node, channels: int) -> str | None:
        """Why this Resize of a map with `channels` channels stays above the convolution, None if it moves."""
        x, y = resize.inputs[0], resize.outputs[0]
        if why := self._why_shared(y) or _why_not_plain(resize):
            return why
        sizes = [estimate(size) for tensor in (x, y) for size in (tensor.shape or [])[2:]]
        if len(sizes) != 4 or None in sizes:
            return f"the scale of the Resize to '{y.name}' is unknown"
        before, after = math.prod(sizes[:2]), math.prod(sizes[2:])  # type: ignore[arg-type]
        out_channels = int(self.conv.inputs[1].shape[0])
        saved_products = channels * out_channels * (after - before)
        added_cost = _INTERPOLATION * (out_channels - channels) * after
        if self.conv.inputs[0] is not y:
            added_cost += _ADDITION * out_channels * after
        return None if saved_products > added_cost else f"moving '{y.name}' saves less than it costs"

    def _resize_of_conv(self, part: Part, first: bool) -> gs.Tensor:
        """The Resize of the convolution of the small map."""
        assert part.resize is not None
        role, old = f"moved{part.start}", part.resize
        small = self._conv(
            f"{role}_small", old.inputs[0], self.weights[:, part.start : part.stop], self.bias if first else None
        )
        rest = [optional(old, index) for index in (1, 2, 3)]
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
        made.inputs[0].name = f"{HoistConvAboveResize.name}/{made.name}"  # by which it is skipped where it stays
        return made

    def _sizes(self, role: str, sizes: gs.Tensor) -> gs.Tensor:
        """The sizes of the old Resize with the channels of the new one."""
        b, out_channels = self.b, int(self.weights.shape[0])
        if (known := ints(sizes)) is not None:
            return b.const(f"{role}_sizes", [known[0], out_channels, *known[2:]])
        batch, sides = (b.slice(f"{role}_{name}", sizes, [a], [z], [0]) for name, a, z in (("n", 0, 1), ("hw", 2, 4)))
        return b.op("Concat", f"{role}_sizes", batch, b.const(f"{role}_channels", [out_channels]), sides, axis=0)


def _why_not_pointwise(conv: gs.Node) -> str | None:
    """Why a convolution with a 1x1 kernel is not pointwise with constant weights, None if it is."""
    if not isinstance(conv.inputs[1], gs.Constant):
        return "its weights are computed"
    if conv.attrs.get("group", 1) != 1:
        return "it has groups"
    if any(side != 1 for side in conv.attrs.get("strides", ())) or any(conv.attrs.get("pads", ())):
        return "it has strides or pads"
    return "it pads" if text(conv, "auto_pad", "NOTSET") not in ("NOTSET", "VALID") else None


def _why_not_plain(resize: gs.Node) -> str | None:
    """Why a Resize does not interpolate height and width alone with weights that sum to 1, None if it does."""
    name = resize.outputs[0].name
    if text(resize, "mode", "nearest") not in ("nearest", "linear"):
        return f"'{name}' is resized by a kernel other than linear or nearest"
    if text(resize, "coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        return f"'{name}' may read beyond the edge"
    axes = resize.attrs.get("axes")
    if axes is not None:
        return None if sorted(axis % 4 for axis in axes) == [2, 3] else f"the Resize to '{name}' is along other axes"
    scales, x, y = optional(resize, 2), resize.inputs[0], resize.outputs[0]
    if scales is not None:
        values = small_constant(scales)
        alike = values is not None and values.size == 4 and (values.ravel()[:2] == 1).all()
        return None if alike else f"the scales of the Resize to '{name}' are unknown"
    known = x.shape is not None and y.shape is not None and len(x.shape) == len(y.shape) == 4
    alike = known and x.shape[1] == y.shape[1] and (x.shape[0] == y.shape[0])
    return None if alike else f"the Resize to '{name}' may change batch or channels"
