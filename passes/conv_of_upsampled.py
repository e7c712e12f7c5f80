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

Must not fire: sizes that are not static, groups, weights that are computed, a Resize of other axes or of unknown
coordinates, and where the products saved are not most of them. Infinite numbers would spread over rows and columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from segc.passes.base import Pass, PassResult
from segc.passes.build import Builder, Cannot, rewrite, standard
from segc.passes.conv_before_resize import maker, parts_of
from segc.passes.edit import optional
from segc.passes.legalize_resize import matrices_of

# What work costs, in products of the convolution: matrices are long and thin, an addition is hardly more than loads
_TAP, _MATRIX, _ADDITION = 1.2, 2.0, 60
_WORTH = 0.7  # the new way may cost at most this share,
_LEAST = 3e7  # and must save so many products: there are a dozen nodes more


class ConvOfUpsampled(Pass):
    """Spell convolutions of enlarged maps as 1x1 convolutions of the small ones and matrix products."""

    name = "conv-of-upsampled"
    algebra = "Conv(Resize(p), W)  ->  sum over taps of A_dy @ Conv1x1(p, W_dy,dx) @ B_dx, also behind a Concat"

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each convolution where it stands."""
        sites = [n for n in standard(graph, "Conv") if any(maker(part, "Resize") for part in parts_of(n))]
        return rewrite(graph, sites, lambda b: _Site(b).spell(), PassResult())


@dataclass(frozen=True)
class _Kernel:
    """A convolution's numbers for one axis: row y of the result sees row y * stride + tap * dilation - pad."""

    taps: int
    stride: int
    dilation: int
    pad: int

    def seen(self, matrix: np.ndarray, out: int) -> list[np.ndarray]:
        """For each tap (out, small): the rows of `matrix` (large, small) that it sees, zeros beyond the edges."""
        found = []
        for tap in range(self.taps):
            rows = np.arange(out) * self.stride + tap * self.dilation - self.pad
            inside = (rows >= 0) & (rows < len(matrix))
            found.append(np.where(inside[:, None], matrix[np.clip(rows, 0, len(matrix) - 1)], 0))
        return found


@dataclass(frozen=True)
class _Part:
    """Channels [start, stop) of what the convolution reads. small: what was enlarged by `rows` and `columns`."""

    tensor: gs.Tensor
    start: int
    stop: int
    small: gs.Tensor | None = None
    rows: np.ndarray | None = None  # (large, small)
    columns: np.ndarray | None = None


class _Site:
    """One convolution while it is spelled anew."""

    def __init__(self, b: Builder) -> None:
        self.b, self.conv = b, b.node
        weights, y = self.conv.inputs[1], self.conv.outputs[0]
        if not isinstance(weights, gs.Constant) or len(weights.shape) != 4:
            raise Cannot("its weights are computed, or it is not of two dimensions")
        if self.conv.attrs.get("group", 1) != 1 or self.conv.attrs.get("auto_pad", "NOTSET") != "NOTSET":
            raise Cannot("it has groups, or pads by itself")
        if not _static(y) or not _static(self.conv.inputs[0]):
            raise Cannot("its sizes are not static")
        self.out, _, *taps = (int(side) for side in weights.shape)
        self.size = tuple(int(side) for side in y.shape[2:])
        attrs, pads = self.conv.attrs, self.conv.attrs.get("pads", [0, 0, 0, 0])
        strides, dilations = attrs.get("strides", [1, 1]), attrs.get("dilations", [1, 1])
        self.down, self.across = (_Kernel(taps[at], strides[at], dilations[at], pads[at]) for at in (0, 1))

    def spell(self) -> gs.Tensor:
        """All nodes, to the convolution's output. Raises Cannot."""
        b, parts = self.b, self._cut()
        self.weights: np.ndarray = self.conv.inputs[1].values
        small, stay = [p for p in parts if p.small is not None], [p for p in parts if p.small is None]
        rows = [self._rows(part) for part in small]
        joined = rows[0] if len(rows) == 1 else b.op("Concat", "rows", *rows, axis=2)
        down = np.concatenate([block for part in small for block in self._down(part)], axis=1)
        moved = b.op("MatMul", "enlarged", b.const("down", down, np.float32), joined)
        bias = optional(self.conv, 2)
        if stay:
            return b.op("Add", "whole", self._kept(stay, bias), moved)
        if bias is None:
            return moved
        return b.op("Add", "biased", moved, b.reshape("bias", bias, [1, self.out, 1, 1]))

    def _cut(self) -> list[_Part]:
        found, reasons, at = list[_Part](), list[str](), 0
        for tensor in parts_of(self.conv):
            if not _static(tensor):
                raise Cannot("its sizes are not static")
            part = _Part(tensor, at, at + int(tensor.shape[1]))
            at = part.stop
            if (resize := maker(tensor, "Resize")) is not None:
                try:
                    part = self._enlarged(part, resize)
                except Cannot as why:
                    reasons.append(str(why))
            found.append(part)
        if all(part.small is None for part in found):
            raise Cannot(reasons[0])
        return found

    def _enlarged(self, part: _Part, resize: gs.Node) -> _Part:
        """The part with what it was made of. Raises Cannot where that does not pay."""
        rows, columns = matrices_of(resize)
        (_, height), (_, width), channels = rows.shape, columns.shape, part.stop - part.start
        taps, (out_height, out_width) = self.down.taps * self.across.taps, self.size
        direct = channels * self.out * taps * out_height * out_width
        small = self.out * taps * height * width * channels
        spread = self.out * height * out_width * (taps * width + self.down.taps * out_height)
        added = self.out * out_width * (out_height + (self.across.taps - 1) * self.down.taps * height)
        cost = _TAP * small + _MATRIX * spread + _ADDITION * added
        if cost > _WORTH * direct or direct - cost < _LEAST:
            raise Cannot(f"to enlarge '{part.tensor.name}' later saves less than it costs")
        return _Part(part.tensor, part.start, part.stop, resize.inputs[0], rows, columns)

    def _rows(self, part: _Part) -> gs.Tensor:
        """The taps of the part put into columns: (N, O, taps * h, W)."""
        b, role = self.b, f"part{part.start}"
        assert part.small is not None and part.columns is not None
        channels, total = part.stop - part.start, None
        for tap, across in enumerate(self.across.seen(part.columns, self.size[1])):
            of_tap = self.weights[:, part.start : part.stop, :, tap]  # (O, C, kh)
            flat = of_tap.transpose(0, 2, 1).reshape(-1, channels, 1, 1)  # row by row of an output channel
            small = b.op("Conv", f"{role}_tap{tap}", part.small, b.const(f"{role}_weights{tap}", flat))
            spread = b.op("MatMul", f"{role}_spread{tap}", small, b.const(f"{role}_across{tap}", across.T, np.float32))
            total = spread if total is None else b.op("Add", f"{role}_sum{tap}", total, spread)
        batch, height = int(part.tensor.shape[0]), len(part.rows.T)  # type: ignore[union-attr]
        return b.reshape(f"{role}_rows", total, [batch, self.out, self.down.taps * height, self.size[1]])

    def _down(self, part: _Part) -> Sequence[np.ndarray]:
        assert part.rows is not None
        return self.down.seen(part.rows, self.size[0])

    def _kept(self, stay: list[_Part], bias: gs.Tensor | None) -> gs.Tensor:
        """The convolution of what was not enlarged."""
        b = self.b
        x = stay[0].tensor if len(stay) == 1 else b.op("Concat", "rest", *(part.tensor for part in stay), axis=1)
        weights = np.concatenate([self.weights[:, part.start : part.stop] for part in stay], axis=1)
        given = [] if bias is None else [bias]
        return b.op("Conv", "kept", x, b.const("kept_weights", weights), *given, **self.conv.attrs)


def _static(tensor: gs.Tensor) -> bool:
    sizes = tensor.shape
    return sizes is not None and len(sizes) == 4 and all(isinstance(size, (int, np.integer)) for size in sizes)
