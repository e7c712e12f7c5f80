"""Sink upsampling below a convolution: convolve the small map, then enlarge the result by matrix products.

Y = Conv(Concat(Resize(p), x, ...), W, b), with p of C channels and h x w pixels, and Y of O channels and H x W pixels:

    Y = Conv(Concat(x, ...), W_x, b) + Z
    Z[o, y, x] = sum over the taps (dy, dx) of the kernel, and over the pixels (i, j) of p, of
                 A_dy[y, i] * (W_dy,dx p)[o, i, j] * B_dx[j, x]

A_dy[y] is the row of the Resize's interpolation matrix that tap dy reads for output row y, 0 where that is padding;
B_dx is the same for columns. So each tap is a 1x1 convolution of p, whose result two matrix products interpolate. The
direct form takes C O kh kw H W multiplications, this one C O kh kw h w + O kh kw h w W + O kh h H W. UPerNet's last 3x3
convolution, two thirds of its multiplications, reads maps of a half, a quarter and an eighth of the size; those of
PSPNet and similar models read maps of 1, 2, 3 and 6 pixels. Resize and convolution are linear, so only rounding
differs.

For static sizes the matrices are constants. For others the graph computes them, for linear Resizes only.

Must not fire: groups; computed weights; a Resize of other axes or of unknown coordinates; sizes of which nothing is
known; too few multiplications saved. Infinite numbers would spread over rows and columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph import ir
from segc.graph.analysis.symbolic_sizes import estimate
from segc.graph.invariants import PORTABLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Builder, RewriteNotApplicable, rewrite, standard
from segc.passes.support.concat_conv import Part, concat_inputs, conv_of_parts, producer_of, split_parts
from segc.passes.support.costs import ASSUMED_SIDE
from segc.passes.support.edit import optional
from segc.passes.support.resize_kinds import kind_of, matrices_of
from segc.passes.support.resize_nodes import Sides, require_plain

# Cost of work relative to a multiplication of the convolution: the matrices are long and thin, additions memory-bound
_TAP, _MATRIX, _ADDITION = 1.2, 2.0, 60
_WORTH = 0.7  # the new form may cost at most this share of the direct one,
_LEAST = 3e7  # and must save at least so many multiplications, since it has a dozen more nodes
_WHOLE = 2**31 - 1  # the end of a Slice that takes the rest


class SinkUpsampleBelowConv(Pass):
    """Rewrite convolutions of upsampled maps as 1x1 convolutions of the small maps and matrix products."""

    name = "sink-upsample-below-conv"
    algebra = "Conv(Resize(p), W)  ->  sum over taps of A_dy @ Conv1x1(p, W_dy,dx) @ B_dx, also after a Concat"
    requires = Pass.requires | {
        PORTABLE,
        "constants folded",
        "identities removed",
        "lowerings merged",
        "batchnorms fused",
        "convolutions hoisted",
    }
    invalidates = frozenset({PORTABLE, "constants folded", "convolutions hoisted", "channel blocks filled"})

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each convolution where it stands."""
        sites = [n for n in standard(graph, "Conv") if any(producer_of(part, "Resize") for part in concat_inputs(n))]
        return rewrite(graph, sites, lambda b: _Sink(b).build(), PassResult())


@dataclass(frozen=True)
class _AxisGeometry:
    """The geometry of a convolution along one axis: row y of the result reads rows y * stride + tap * dilation - pad.

    end: rows of zeros after the last.
    """

    taps: int
    stride: int
    dilation: int
    pad: int
    end: int

    def rows_read(self, matrix: np.ndarray, out: int) -> list[np.ndarray]:
        """For each tap (out, small): the rows of `matrix` (large, small) that it reads, zeros beyond the edges."""
        per_tap = []
        for tap in range(self.taps):
            rows = np.arange(out) * self.stride + tap * self.dilation - self.pad
            inside = (rows >= 0) & (rows < len(matrix))
            per_tap.append(np.where(inside[:, None], matrix[np.clip(rows, 0, len(matrix) - 1)], 0))
        return per_tap

    def rows_read_by_nodes(self, b: Builder, role: str, matrix: gs.Tensor, axis: int) -> list[gs.Tensor]:
        """The same for a matrix that the graph computes, whose large side is `axis`."""
        before, after = [0, 0], [0, 0]
        before[axis], after[axis] = self.pad, self.end
        padded = b.op("Pad", f"{role}_padded", matrix, b.const(f"{role}_pads", [*before, *after]))
        reach = self.dilation * (self.taps - 1)
        per_tap = []
        for tap in range(self.taps):
            start = tap * self.dilation
            slices = {
                "start": start,
                "stop": start - reach if start < reach else _WHOLE,
                "axis": axis,
                "step": self.stride,
            }
            bounds = [b.const(f"{role}_{tap}_{name}", [value]) for name, value in slices.items()]
            per_tap.append(b.op("Slice", f"{role}_{tap}", padded, *bounds))
        return per_tap


class _Sink:
    """Builds the nodes that replace one convolution."""

    def __init__(self, b: Builder) -> None:
        self.b, self.conv = b, b.node
        weights, y = self.conv.inputs[1], self.conv.outputs[0]
        if not isinstance(weights, gs.Constant) or len(weights.shape) != 4:
            raise RewriteNotApplicable("its weights are computed, or it is not two-dimensional")
        if self.conv.attrs.get("group", 1) != 1 or self.conv.attrs.get("auto_pad", "NOTSET") != "NOTSET":
            raise RewriteNotApplicable("it has groups or auto_pad")
        self.out, _, *taps = (int(side) for side in weights.shape)
        attrs, pads = self.conv.attrs, self.conv.attrs.get("pads", [0, 0, 0, 0])
        strides, dilations = attrs.get("strides", [1, 1]), attrs.get("dilations", [1, 1])
        self.down, self.across = (
            _AxisGeometry(taps[at], strides[at], dilations[at], pads[at], pads[at + 2]) for at in (0, 1)
        )
        self.size = _sides(y)

    def build(self) -> gs.Tensor:
        """Build all nodes; returns the tensor that replaces the output. Raises RewriteNotApplicable."""
        b, parts = self.b, split_parts(self.conv, self._why_stays)
        self.weights: np.ndarray = self.conv.inputs[1].values
        unresized = [part for part in parts if part.resize is None]
        rows, down_matrices = list[gs.Tensor](), list[Any]()
        for part in parts:
            if part.resize is not None:
                down, across = self._matrices(part, part.resize)
                rows.append(self._columns_enlarged(part, part.resize.inputs[0], across))
                down_matrices += down
        if all(isinstance(block, np.ndarray) for block in down_matrices):
            down_matrix: gs.Tensor = b.const("down", np.concatenate(down_matrices, axis=1), np.float32)
        else:
            blocks = [
                b.const("down", block, np.float32) if isinstance(block, np.ndarray) else block
                for block in down_matrices
            ]
            down_matrix = b.op("Concat", "down", *blocks, axis=1)
        stacked = rows[0] if len(rows) == 1 else b.op("Concat", "rows", *rows, axis=2)
        enlarged = b.op("MatMul", "enlarged", down_matrix, stacked)
        enlarged.shape = list(b.y.shape)
        bias = optional(self.conv, 2)
        if unresized:
            return b.op("Add", "whole", conv_of_parts(b, unresized, self.weights, bias), enlarged)
        if bias is None:
            return enlarged
        return b.op("Add", "biased", enlarged, b.reshape("bias", bias, [1, self.out, 1, 1]))

    def _why_stays(self, resize: gs.Node, channels: int) -> str | None:
        try:
            self._require_gain(resize, channels)
        except RewriteNotApplicable as why:
            return str(why)
        return None

    def _require_gain(self, resize: gs.Node, channels: int) -> None:
        """Raise RewriteNotApplicable if this Resize cannot move below the convolution, or that does not pay."""
        if resize.inputs[0].dtype != np.float32:
            raise RewriteNotApplicable(f"'{resize.inputs[0].name}' is {resize.inputs[0].dtype}")
        if _static(resize):
            matrices_of(resize)
        else:
            require_plain(resize)
            if kind_of(resize).mode != "linear":
                raise RewriteNotApplicable(f"its mode is {kind_of(resize).mode}, on sides that are not static")
        (height, width), (out_height, out_width) = _sides(resize.inputs[0]), self.size
        taps = self.down.taps * self.across.taps
        direct_products = channels * self.out * taps * out_height * out_width
        small_products = self.out * taps * height * width * channels
        enlarging_products = self.out * height * out_width * (taps * width + self.down.taps * out_height)
        additions = self.out * out_width * (out_height + (self.across.taps - 1) * self.down.taps * height)
        cost = _TAP * small_products + _MATRIX * enlarging_products + _ADDITION * additions
        if cost > _WORTH * direct_products or direct_products - cost < _LEAST:
            raise RewriteNotApplicable(f"moving '{resize.outputs[0].name}' saves less than it costs")

    def _matrices(self, part: Part, resize: gs.Node) -> tuple[list[Any], list[gs.Tensor]]:
        """For each tap: the matrix (H, h), as an array if it is known, and the matrix (w, W)."""
        b, role = self.b, f"part{part.start}"
        if _static(resize) and ir.static_shape(b.y) is not None:
            rows, columns = matrices_of(resize)
            across = self.across.rows_read(columns, self.size[1])
            constants = [b.const(f"{role}_across{tap}", m.T, np.float32) for tap, m in enumerate(across)]
            return list(self.down.rows_read(rows, self.size[0])), list(constants)
        sides, coordinates = Sides(b, resize), kind_of(resize).coordinates
        down, right = (
            sides.weights(axis, f"{role}_{name}", coordinates) for axis, name in ((2, "down"), (3, "across"))
        )
        return (
            list(self.down.rows_read_by_nodes(b, f"{role}_down", down, 0)),
            self.across.rows_read_by_nodes(b, f"{role}_across", right, 1),
        )

    def _columns_enlarged(self, part: Part, x: gs.Tensor, across: Sequence[gs.Tensor]) -> gs.Tensor:
        """The convolution of the part with its columns interpolated: (N, O, taps * h, W)."""
        b, role = self.b, f"part{part.start}"
        channels, total = part.stop - part.start, None
        for tap, matrix in enumerate(across):
            tap_weights = self.weights[:, part.start : part.stop, :, tap]  # (O, C, kh)
            flat = tap_weights.transpose(0, 2, 1).reshape(
                -1, channels, 1, 1
            )  # (O * kh, C, 1, 1), the rows of the kernel of an output channel together
            small = b.op("Conv", f"{role}_tap{tap}", x, b.const(f"{role}_weights{tap}", flat))
            spread = b.op("MatMul", f"{role}_spread{tap}", small, matrix)
            total = spread if total is None else b.op("Add", f"{role}_sum{tap}", total, spread)
        # 0: batch and columns keep their sizes
        return b.op("Reshape", f"{role}_rows", total, b.const(f"{role}_shape", [0, self.out, -1, 0]))


def _static(resize: gs.Node) -> bool:
    return all(ir.static_shape(tensor) is not None for tensor in (resize.inputs[0], resize.outputs[0]))


def _sides(tensor: gs.Tensor) -> tuple[int, int]:
    """Height and width, estimated. Raises RewriteNotApplicable if nothing is known of them."""
    sizes = [estimate(size, ASSUMED_SIDE) for size in (tensor.shape or [])[2:]]
    if len(sizes) != 2 or None in sizes:
        raise RewriteNotApplicable(f"the sizes of '{tensor.name}' are unknown")
    return sizes[0], sizes[1]  # type: ignore[return-value]
