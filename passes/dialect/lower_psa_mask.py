"""Spell segc.PSAMask in standard ops without a custom kernel: Pad, Reshape, Slice and Transpose.

PSANet predicts for each pixel (h, w) one weight for each place (p, q) of a mask centred on it; the mask may reach
beyond the map. With half = (mask - 1) // 2 along each axis

    collect      y[n, (i, j), h, w] = x[n, (i - h + half_h, j - w + half_w), h, w],  0 where that is outside the mask
    distribute   y[n, (h, w), i, j] = the same

Rows and columns are independent, and along one axis this shifts row h of a matrix a[h, p] by h. To shift each row by
one more than the last, append as many zeros as there are rows and read the same numbers with rows one shorter:

    Reshape(Slice(Reshape(Pad(a))))[h, c] = a[h, c - h]

and the cells half .. half + H - 1 of that are the result. Places that no pixel can reach are cut off first. Nothing is
computed, so the result is exact for every type; the largest tensor between has less than twice the size of y.

Must not fire: where a side of the map is not static; the number of zeros depends on it.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from segc.graph import dialect
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Axis, Builder, Cannot, rewrite, typed

OP = "PSAMask"
COLLECT, DISTRIBUTE = 0, 1


class LowerPSAMask(Pass):
    """Rewrite segc.PSAMask into Pad, Reshape, Slice and Transpose, exactly."""

    name = "lower-psa-mask"
    algebra = "segc.PSAMask(x)  ->  rows, then columns, shifted each by one more than the last (Pad, Reshape, Slice)"
    gives = frozenset({"no segc.PSAMask"})

    def run(self, graph: gs.Graph) -> PassResult:
        """Lower each node where it stands."""
        sites = [n for n in graph.nodes if (n.domain, n.op) == (dialect.DOMAIN, OP)]
        return rewrite(graph, sites, spelled, PassResult())


def reachable(mask: int, side: int) -> tuple[int, int]:
    """First place of the mask that some pair of pixels of a side needs, and end (excluded)."""
    half = (mask - 1) // 2
    return max(0, half - (side - 1)), min(mask, half + side)


def spelled(b: Builder) -> gs.Tensor:
    """The new nodes for one site."""
    x = b.node.inputs[0]
    typed(x)
    rows, cols = (int(size) for size in b.node.attrs["mask_size"])
    height, width = x.shape[2:]
    if not isinstance(height, int) or not isinstance(width, int):
        raise Cannot(f"'{x.name}' has sides {height} and {width}, which are not static")
    (top, bottom), (left, right) = reachable(rows, height), reachable(cols, width)
    batch: Axis = (x, 0)
    y = b.reshape("mask", x, [batch, rows, cols, height, width])
    if (bottom - top, right - left) != (rows, cols):
        y = b.slice("reachable", y, [top, left], [bottom, right], [1, 2])
    y = b.transpose("by_row", y, [0, 2, 4, 3, 1])  # N, q, w, h, p
    y = shifted(b, "rows", y, batch, (rows - 1) // 2 - top)  # N, q, w, h, i
    y = b.transpose("by_col", y, [0, 4, 3, 2, 1])  # N, i, h, w, q
    y = shifted(b, "cols", y, batch, (cols - 1) // 2 - left)  # N, i, h, w, j
    distribute = b.node.attrs.get("psa_type", COLLECT) == DISTRIBUTE
    y = b.transpose("pairs", y, [0, 2, 3, 1, 4] if distribute else [0, 1, 4, 2, 3])
    return b.reshape("attention", y, [batch, height * width, height, width])


def shifted(b: Builder, role: str, a: gs.Tensor, batch: Axis, half: int) -> gs.Tensor:
    """y[..., h, i] = a[..., h, i - h + half], for as many i as there are h; 0 outside."""
    outer: list[int | Axis | list[int | Axis]] = [batch, *a.shape[1:3]]
    side, places = a.shape[3:]
    wide = b.op("Pad", f"{role}_padded", a, b.const(f"{role}_pads", [0] * 9 + [side]))
    flat = b.reshape(f"{role}_flat", wide, [*outer, side * (places + side)])
    cut = b.slice(f"{role}_cut", flat, [0], [side * (places + side - 1)], [3])
    skewed = b.reshape(f"{role}_skewed", cut, [*outer, side, places + side - 1])
    return b.slice(f"{role}_shifted", skewed, [half], [half + side], [4])
