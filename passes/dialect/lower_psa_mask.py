"""Lower segc.PSAMask to Pad, Reshape, Slice and Transpose, without a custom kernel.

PSANet predicts for each pixel (h, w) one weight for each position (p, q) of a mask centred on the pixel; the mask may
reach beyond the map. With half = (mask - 1) // 2 along each axis

    collect      y[n, (i, j), h, w] = x[n, (i - h + half_h, j - w + half_w), h, w],  0 where that is outside the mask
    distribute   y[n, (h, w), i, j] = the same

Rows and columns are independent. Along one axis this skews a matrix a[h, p]: row h is shifted by h. To skew it, append
as many zeros to each row as there are rows, and read the same numbers as rows that are one shorter:

    Reshape(Slice(Reshape(Pad(a))))[h, c] = a[h, c - h]

The cells half .. half + H - 1 of that are the result. For example, with 2 rows of 2 positions,

    [[a, b], [c, d]]  -> pad ->  [a b 0 0 c d 0 0]  -> rows of 3 ->  [[a, b, 0], [0, c, d]]

Positions that no pixel can reach are sliced off first. Nothing is computed, so the result is exact for every type. The
largest intermediate tensor is less than twice as large as y.

Must not fire: where a side of the map is not static; the number of zeros depends on it.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from segc.graph import dialect
from segc.graph.invariants import NODE_RULES, PORTABLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Axis, Builder, RewriteNotApplicable, rewrite, typed

OP = "PSAMask"
COLLECT, DISTRIBUTE = 0, 1


class LowerPSAMask(Pass):
    """Rewrite segc.PSAMask into Pad, Reshape, Slice and Transpose, exactly."""

    name = "lower-psa-mask"
    algebra = "segc.PSAMask(x)  ->  rows, then columns, skewed by Pad, Reshape and Slice"
    ensures = frozenset({"no segc.PSAMask"})
    invalidates = NODE_RULES | {PORTABLE}

    def run(self, graph: gs.Graph) -> PassResult:
        """Lower each node where it stands."""
        sites = [n for n in graph.nodes if (n.domain, n.op) == (dialect.DOMAIN, OP)]
        return rewrite(graph, sites, lower, PassResult())


def reachable(mask: int, side: int) -> tuple[int, int]:
    """The range [first, end) of mask positions that some pair of pixels along a side needs."""
    half = (mask - 1) // 2
    return max(0, half - (side - 1)), min(mask, half + side)


def lower(b: Builder) -> gs.Tensor:
    """Build the nodes that replace the op."""
    x = b.node.inputs[0]
    typed(x)
    rows, cols = (int(size) for size in b.node.attrs["mask_size"])
    height, width = x.shape[2:]
    if not isinstance(height, int) or not isinstance(width, int):
        raise RewriteNotApplicable(f"the sides {height} and {width} of '{x.name}' are not static")
    (top, bottom), (left, right) = reachable(rows, height), reachable(cols, width)
    batch: Axis = (x, 0)
    y = b.reshape("mask", x, [batch, rows, cols, height, width])
    if (bottom - top, right - left) != (rows, cols):
        y = b.slice("reachable", y, [top, left], [bottom, right], [1, 2])
    y = b.transpose("by_row", y, [0, 2, 4, 3, 1])  # N, q, w, h, p
    y = skew(b, "rows", y, batch, (rows - 1) // 2 - top)  # N, q, w, h, i
    y = b.transpose("by_col", y, [0, 4, 3, 2, 1])  # N, i, h, w, q
    y = skew(b, "cols", y, batch, (cols - 1) // 2 - left)  # N, i, h, w, j
    distribute = b.node.attrs.get("psa_type", COLLECT) == DISTRIBUTE
    y = b.transpose("pairs", y, [0, 2, 3, 1, 4] if distribute else [0, 1, 4, 2, 3])
    return b.reshape("attention", y, [batch, height * width, height, width])


def skew(b: Builder, role: str, a: gs.Tensor, batch: Axis, half: int) -> gs.Tensor:
    """y[..., h, i] = a[..., h, i - h + half], for as many i as there are h; 0 outside."""
    outer: list[int | Axis | list[int | Axis]] = [batch, *a.shape[1:3]]
    side, places = a.shape[3:]
    wide = b.op("Pad", f"{role}_padded", a, b.const(f"{role}_pads", [0] * 9 + [side]))
    flat = b.reshape(f"{role}_flat", wide, [*outer, side * (places + side)])
    cut = b.slice(f"{role}_cut", flat, [0], [side * (places + side - 1)], [3])
    skewed = b.reshape(f"{role}_skewed", cut, [*outer, side, places + side - 1])
    return b.slice(f"{role}_shifted", skewed, [half], [half + side], [4])
