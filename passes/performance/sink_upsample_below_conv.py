"""Convolve small maps before they are enlarged: what an enlarged map holds is in few numbers.

Y = Conv(Concat(Resize(p), x, ...), W, b), with p of C channels and h x w pixels, and Y of O channels and H x W pixels:

    Y = Conv(Concat(x, ...), W_x, b) + Z
    Z[o, y, x] = sum over the taps (dy, dx) of the kernel, and over the pixels (i, j) of p, of
                 A_dy[y, i] * (W_dy,dx p)[o, i, j] * B_dx[j, x]

A_dy[y] is the row of the Resize's matrix that tap dy sees from output row y, 0 where that is padding; B_dx is the same
for columns. So each tap is a 1x1 convolution of p, and two matrix products put its result everywhere. Direct:
C O kh kw H W products; this way: C O kh kw h w + O kh kw h w W + O kh h H W. UPerNet's last 3x3 convolution, two thirds
of its products, reads maps of a half, a quarter and an eighth of the size; PSPNet's and its like read maps of 1, 2, 3
and 6 pixels. A Resize and a convolution are linear, so that only rounding differs.

Where sizes are static the matrices are constants. Elsewhere the graph computes them, of linear Resizes alone.

Must not fire: groups, weights that are computed, a Resize of other axes or of unknown coordinates, sizes of which
nothing is known, and where few products are saved. Infinite numbers would spread over rows and columns.
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
from segc.passes.support.builder import Builder, Cannot, rewrite, standard
from segc.passes.support.concat_conv import Part, convolved, cut, maker, tensors_of
from segc.passes.support.costs import ASSUMED_SIDE
from segc.passes.support.edit import optional
from segc.passes.support.resize_kinds import kind_of, matrices_of
from segc.passes.support.resize_nodes import Sides, require_plain

# What work costs, in products of the convolution: matrices are long and thin, an addition is hardly more than loads
_TAP, _MATRIX, _ADDITION = 1.2, 2.0, 60
_WORTH = 0.7  # the new way may cost at most this share,
_LEAST = 3e7  # and must save so many products: there are a dozen nodes more
_WHOLE = 2**31 - 1  # the end of a Slice that takes the rest


class SinkUpsampleBelowConv(Pass):
    """Spell convolutions of enlarged maps as 1x1 convolutions of the small ones and matrix products."""

    name = "sink-upsample-below-conv"
    algebra = "Conv(Resize(p), W)  ->  sum over taps of A_dy @ Conv1x1(p, W_dy,dx) @ B_dx, also behind a Concat"
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
        sites = [n for n in standard(graph, "Conv") if any(maker(part, "Resize") for part in tensors_of(n))]
        return rewrite(graph, sites, lambda b: _Site(b).spell(), PassResult())


@dataclass(frozen=True)
class _Kernel:
    """A convolution's numbers for one axis: row y of the result sees row y * stride + tap * dilation - pad.

    end: rows of zeros behind the last.
    """

    taps: int
    stride: int
    dilation: int
    pad: int
    end: int

    def seen(self, matrix: np.ndarray, out: int) -> list[np.ndarray]:
        """For each tap (out, small): the rows of `matrix` (large, small) that it sees, zeros beyond the edges."""
        found = []
        for tap in range(self.taps):
            rows = np.arange(out) * self.stride + tap * self.dilation - self.pad
            inside = (rows >= 0) & (rows < len(matrix))
            found.append(np.where(inside[:, None], matrix[np.clip(rows, 0, len(matrix) - 1)], 0))
        return found

    def seen_by_nodes(self, b: Builder, role: str, matrix: gs.Tensor, axis: int) -> list[gs.Tensor]:
        """The same of a matrix that is computed, whose large side is `axis`."""
        before, after = [0, 0], [0, 0]
        before[axis], after[axis] = self.pad, self.end
        padded = b.op("Pad", f"{role}_padded", matrix, b.const(f"{role}_pads", [*before, *after]))
        reach = self.dilation * (self.taps - 1)
        found = []
        for tap in range(self.taps):
            start = tap * self.dilation
            slices = {
                "start": start,
                "stop": start - reach if start < reach else _WHOLE,
                "axis": axis,
                "step": self.stride,
            }
            given = [b.const(f"{role}_{tap}_{name}", [value]) for name, value in slices.items()]
            found.append(b.op("Slice", f"{role}_{tap}", padded, *given))
        return found


class _Site:
    """One convolution while it is spelled anew."""

    def __init__(self, b: Builder) -> None:
        self.b, self.conv = b, b.node
        weights, y = self.conv.inputs[1], self.conv.outputs[0]
        if not isinstance(weights, gs.Constant) or len(weights.shape) != 4:
            raise Cannot("its weights are computed, or it is not of two dimensions")
        if self.conv.attrs.get("group", 1) != 1 or self.conv.attrs.get("auto_pad", "NOTSET") != "NOTSET":
            raise Cannot("it has groups, or pads by itself")
        self.out, _, *taps = (int(side) for side in weights.shape)
        attrs, pads = self.conv.attrs, self.conv.attrs.get("pads", [0, 0, 0, 0])
        strides, dilations = attrs.get("strides", [1, 1]), attrs.get("dilations", [1, 1])
        self.down, self.across = (
            _Kernel(taps[at], strides[at], dilations[at], pads[at], pads[at + 2]) for at in (0, 1)
        )
        self.size = _sides(y)

    def spell(self) -> gs.Tensor:
        """All nodes, to the convolution's output. Raises Cannot."""
        b, parts = self.b, cut(self.conv, self._why_stays)
        self.weights: np.ndarray = self.conv.inputs[1].values
        stay = [part for part in parts if part.resize is None]
        rows, downs = list[gs.Tensor](), list[Any]()
        for part in parts:
            if part.resize is not None:
                down, across = self._matrices(part, part.resize)
                rows.append(self._rows(part, part.resize.inputs[0], across))
                downs += down
        if all(isinstance(block, np.ndarray) for block in downs):
            all_down: gs.Tensor = b.const("down", np.concatenate(downs, axis=1), np.float32)
        else:
            blocks = [b.const("down", d, np.float32) if isinstance(d, np.ndarray) else d for d in downs]
            all_down = b.op("Concat", "down", *blocks, axis=1)
        joined = rows[0] if len(rows) == 1 else b.op("Concat", "rows", *rows, axis=2)
        moved = b.op("MatMul", "enlarged", all_down, joined)
        moved.shape = list(b.y.shape)
        bias = optional(self.conv, 2)
        if stay:
            return b.op("Add", "whole", convolved(b, stay, self.weights, bias), moved)
        if bias is None:
            return moved
        return b.op("Add", "biased", moved, b.reshape("bias", bias, [1, self.out, 1, 1]))

    def _why_stays(self, resize: gs.Node, channels: int) -> str | None:
        try:
            self._require_gain(resize, channels)
        except Cannot as why:
            return str(why)
        return None

    def _require_gain(self, resize: gs.Node, channels: int) -> None:
        """Raise Cannot where this Resize cannot be done later, or that does not pay."""
        if resize.inputs[0].dtype != np.float32:
            raise Cannot(f"'{resize.inputs[0].name}' is {resize.inputs[0].dtype}")
        if _static(resize):
            matrices_of(resize)
        else:
            require_plain(resize)
            if kind_of(resize).mode != "linear":
                raise Cannot(f"{kind_of(resize).mode} on sides that are not static")
        (height, width), (out_height, out_width) = _sides(resize.inputs[0]), self.size
        taps = self.down.taps * self.across.taps
        direct = channels * self.out * taps * out_height * out_width
        small = self.out * taps * height * width * channels
        spread = self.out * height * out_width * (taps * width + self.down.taps * out_height)
        added = self.out * out_width * (out_height + (self.across.taps - 1) * self.down.taps * height)
        cost = _TAP * small + _MATRIX * spread + _ADDITION * added
        if cost > _WORTH * direct or direct - cost < _LEAST:
            raise Cannot(f"to enlarge '{resize.outputs[0].name}' later saves less than it costs")

    def _matrices(self, part: Part, resize: gs.Node) -> tuple[list[Any], list[gs.Tensor]]:
        """For each tap: (H, h), as arrays where they are known, and (w, W)."""
        b, role = self.b, f"part{part.start}"
        if _static(resize) and ir.static_shape(b.y) is not None:
            rows, columns = matrices_of(resize)
            across = self.across.seen(columns, self.size[1])
            constants = [b.const(f"{role}_across{tap}", m.T, np.float32) for tap, m in enumerate(across)]
            return list(self.down.seen(rows, self.size[0])), list(constants)
        sides, coordinates = Sides(b, resize), kind_of(resize).coordinates
        down, right = (
            sides.weights(axis, f"{role}_{name}", coordinates) for axis, name in ((2, "down"), (3, "across"))
        )
        return (
            list(self.down.seen_by_nodes(b, f"{role}_down", down, 0)),
            self.across.seen_by_nodes(b, f"{role}_across", right, 1),
        )

    def _rows(self, part: Part, x: gs.Tensor, across: Sequence[gs.Tensor]) -> gs.Tensor:
        """The taps of the part put into columns: (N, O, taps * h, W)."""
        b, role = self.b, f"part{part.start}"
        channels, total = part.stop - part.start, None
        for tap, matrix in enumerate(across):
            of_tap = self.weights[:, part.start : part.stop, :, tap]  # (O, C, kh)
            flat = of_tap.transpose(0, 2, 1).reshape(-1, channels, 1, 1)  # row by row of an output channel
            small = b.op("Conv", f"{role}_tap{tap}", x, b.const(f"{role}_weights{tap}", flat))
            spread = b.op("MatMul", f"{role}_spread{tap}", small, matrix)
            total = spread if total is None else b.op("Add", f"{role}_sum{tap}", total, spread)
        # batch and columns stay what they are
        return b.op("Reshape", f"{role}_rows", total, b.const(f"{role}_shape", [0, self.out, -1, 0]))


def _static(resize: gs.Node) -> bool:
    return all(ir.static_shape(tensor) is not None for tensor in (resize.inputs[0], resize.outputs[0]))


def _sides(tensor: gs.Tensor) -> tuple[int, int]:
    """Height and width, about. Raises Cannot where nothing is known of them."""
    sizes = [estimate(size, ASSUMED_SIDE) for size in (tensor.shape or [])[2:]]
    if len(sizes) != 2 or None in sizes:
        raise Cannot(f"the sizes of '{tensor.name}' are unknown")
    return sizes[0], sizes[1]  # type: ignore[return-value]
