"""Make the padding of Conv and pools symmetric: what one end has more becomes a Pad before them.

    Conv(x, pads = p)                              ->  Conv(Pad(x, p - q, 0), pads = q)
    MaxPool(x, pads = p)                           ->  MaxPool(Pad(x, p - q, lowest), pads = q)
    AveragePool(x, pads = p, count_include_pad=1)  ->  AveragePool(Pad(x, p - q, 0), pads = q, count_include_pad = 1)
    AveragePool(x, pads = p, count_include_pad=0)  ->  the same * (cells of the kernel / cells inside x)

where q has, at both ends of each side, the smaller of its two pads. `lowest` is -inf for floats: it never wins against
a cell. The factor of an average that does not count its padding is a constant for static sides. auto_pad SAME becomes
pads first, for static sides. Conv and MaxPool are exact; the average differs in the last bits.

The inverse of fuse-pad-conv, for runtimes that take one pad per side; it runs last in their pipelines.

Must not fire: ceil_mode, which drops a last window that starts in the padding of the pool, but not in that of a Pad; a
MaxPool that returns indices, which count cells of x; auto_pad SAME or a factor for a side of unknown size; padding that
is symmetric already.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph.invariants import PORTABLE, SINGLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Builder, RewriteNotApplicable, only_output, rewrite, standard, text, typed

SAME = ("SAME_UPPER", "SAME_LOWER")


class LegalizeAsymmetricPads(Pass):
    """Move the asymmetric part of the padding of Conv, MaxPool and AveragePool into a Pad before them."""

    name = "legalize-asymmetric-pads"
    algebra = "Conv(x, pads = p)  ->  Conv(Pad(x, p - q), pads = q) with q symmetric; likewise for pools"
    requires = frozenset({SINGLE})
    ensures = frozenset({"symmetric pads"})
    invalidates = frozenset({PORTABLE, "defaults written"})

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each node where it stands."""
        sites = [n for n in standard(graph, "Conv", "MaxPool", "AveragePool") if is_asymmetric(n)]
        return rewrite(graph, sites, lower, PassResult())


def is_asymmetric(node: gs.Node) -> bool:
    """Whether the node pads the two ends of a side differently, or may do so because of auto_pad."""
    pads = list(node.attrs.get("pads", ()))
    half = len(pads) // 2
    return text(node, "auto_pad", "NOTSET") in SAME or pads[:half] != pads[half:]


def symmetric_part(pads: Sequence[int]) -> tuple[list[int], list[int]]:
    """The padding that both ends of each side share, and the remainder; both as ONNX pads."""
    half = len(pads) // 2
    symmetric = [min(pads[i], pads[i + half]) for i in range(half)]
    return symmetric * 2, [p - q for p, q in zip(pads, symmetric * 2, strict=True)]


def same_pads(side: int, kernel: int, stride: int, dilation: int, upper: bool) -> tuple[int, int]:
    """The pads of auto_pad SAME before and after a side, so that ceil(side / stride) windows fit."""
    total = max((-(-side // stride) - 1) * stride + (kernel - 1) * dilation + 1 - side, 0)
    small, large = total // 2, total - total // 2
    return (small, large) if upper else (large, small)


def cells_inside(side: int, kernel: int, stride: int, dilation: int, pads: tuple[int, int]) -> np.ndarray:
    """int64[windows]: how many cells of each window lie inside the side, not in its padding."""
    windows = (side + sum(pads) - (kernel - 1) * dilation - 1) // stride + 1
    cells = np.arange(windows)[:, None] * stride + np.arange(kernel) * dilation - pads[0]
    return np.asarray(((cells >= 0) & (cells < side)).sum(axis=1))


def lower(b: Builder) -> gs.Tensor:
    """Build the nodes that replace one Conv or pool. Raises RewriteNotApplicable."""
    node, x = b.node, b.node.inputs[0]
    typed(x)
    only_output(node)
    if node.attrs.get("ceil_mode", 0):
        raise RewriteNotApplicable("its last window may start in the padding (ceil_mode)")
    kernel = _kernel(node)
    strides, dilations = (list(node.attrs.get(name, [1] * len(kernel))) for name in ("strides", "dilations"))
    sides = list(x.shape[2:])
    pads = _pads(node, sides, kernel, strides, dilations)
    symmetric, remainder = symmetric_part(pads)
    attrs = {name: value for name, value in node.attrs.items() if name != "auto_pad"} | {"pads": symmetric}
    counts_all = node.op != "AveragePool" or node.attrs.get("count_include_pad", 0) == 1
    factor = None
    if not counts_all and any(remainder):
        attrs["count_include_pad"] = 1
        factor = _factor(sides, kernel, strides, dilations, pads)
    y: gs.Tensor = b.op(node.op, "pooled", padded(b, x, remainder) if any(remainder) else x, *node.inputs[1:], **attrs)
    return y if factor is None else b.op("Mul", "mean", y, b.const("factor", factor, x.dtype))


def padded(b: Builder, x: gs.Tensor, remainder: Sequence[int]) -> gs.Tensor:
    """`x` with these pads around its spatial axes, of a value that the op does not see."""
    half = len(remainder) // 2
    pads = [0, 0, *remainder[:half], 0, 0, *remainder[half:]]
    dtype = np.dtype(x.dtype)
    value = 0.0
    if b.node.op == "MaxPool":
        value = -math.inf if dtype.kind == "f" else float(np.iinfo(dtype).min)
    return b.op("Pad", "padded", x, b.const("pads", pads), b.const("value", value, dtype))


def _kernel(node: gs.Node) -> list[int]:
    if "kernel_shape" in node.attrs:
        return list(node.attrs["kernel_shape"])
    typed(node.inputs[1])
    if not all(isinstance(size, int) for size in node.inputs[1].shape[2:]):
        raise RewriteNotApplicable(f"the kernel '{node.inputs[1].name}' is not static")
    return list(node.inputs[1].shape[2:])


def _pads(
    node: gs.Node, sides: Sequence[object], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[int]:
    mode = text(node, "auto_pad", "NOTSET")
    if mode not in SAME:
        return list(node.attrs["pads"])
    pairs = [
        same_pads(_static(side), k, s, d, mode == "SAME_UPPER")
        for side, k, s, d in zip(sides, kernel, strides, dilations, strict=True)
    ]
    return [before for before, _ in pairs] + [after for _, after in pairs]


def _static(side: object) -> int:
    if not isinstance(side, (int, np.integer)):
        raise RewriteNotApplicable(f"side {side} is not static")
    return int(side)


def _factor(
    sides: Sequence[object],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[int],
) -> np.ndarray:
    """The cells of the kernel divided by the cells inside, for each window."""
    half = len(sides)
    counts = np.ones((1, 1))
    for axis, side in enumerate(sides):
        ends = (pads[axis], pads[axis + half])
        counts = counts[..., None] * cells_inside(_static(side), kernel[axis], strides[axis], dilations[axis], ends)
    return np.asarray(math.prod(kernel) / counts)
