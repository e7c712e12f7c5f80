"""Lower segc.ResizeArgMax tile by tile: interpolate bands of columns and strips of rows by matrix products.

    band = x[l:u] @ cols[l:u, p:q]            (h, C, q - p), a band of columns, which reads columns l to u only
    strip = rows[a:b, i:j] @ band[i:j]        (b - a, C, q - p), a strip of its rows
    mask[a:b, p:q] = lowest index of the largest over C

Each row of both interpolation matrices has two nonzero numbers, so only the nonzero block of a band or strip is
multiplied. The weights are torch's, and columns come before rows as in torch, so numbers differ from torch's by
rounding only: the products add 0 * logit. A strip is small enough for a processor's cache, and the resized logits never
exist as a whole.

classes_last: the winner is found by ArgMax along the last axis; otherwise by TopK of one along the middle axis.
Runtimes differ in which is faster. Both return the lowest index of the largest.

Infinite and NaN logits spread over their band (0 * inf is NaN), farther than with Resize.

Must not fire: sizes that are not static; a result smaller than the input; types other than float32. These become Resize
and ArgMax.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph.invariants import PORTABLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Builder, RewriteNotApplicable
from segc.passes.support.resize_argmax_site import Site, lower, read, weights

MAX_STRIPS = 64


@dataclass(frozen=True)
class LowerResizeArgMaxTiled(Pass):
    """Lower segc.ResizeArgMax to MatMuls and TopK or ArgMax, strip by strip.

    strip_kb: size of a strip of resized logits, in 1024 bytes. columns: width of a band of the result, in pixels.
    """

    name: ClassVar[str] = "lower-resize-argmax-tiled"
    algebra: ClassVar[str] = "segc.ResizeArgMax(x, size)  ->  Concat of TopK(rows_i @ (x @ cols))"
    requires: ClassVar[frozenset[str]] = Pass.requires | {PORTABLE, "argmax folded", "thresholds folded"}
    ensures: ClassVar[frozenset[str]] = frozenset({"no segc.ResizeArgMax"})
    invalidates: ClassVar[frozenset[str]] = frozenset(
        {"argmax folded", "no ArgMax", "identities removed", "lowerings merged"}
    )

    strip_kb: int = 2048
    columns: int = 512
    classes_last: bool = False

    def run(self, graph: gs.Graph) -> PassResult:
        """Lower each node where it stands."""
        return lower(graph, self.build)

    def build(self, b: Builder, site: Site) -> gs.Tensor:
        """Build the nodes that replace one op. Raises RewriteNotApplicable."""
        if b.opset < 13:
            raise RewriteNotApplicable(f"this lowering needs opset 13, the graph has {b.opset}")
        if site.out_height < site.height or site.out_width < site.width:
            raise RewriteNotApplicable("the resized logits are smaller than the logits")
        n, c, h, w = site.batch, site.classes, site.height, site.width
        cols = weights(w, site.out_width, site.coordinates)
        if self.classes_last:
            x = b.transpose("pixels", site.x, [2, 0, 3, 1])
        else:
            x = b.reshape("lines", b.transpose("rows_first", site.x, [2, 0, 1, 3]), [h * n * c, w])
        bands = []
        for start in range(0, site.out_width, self.columns):
            stop = min(start + self.columns, site.out_width)
            low, high = read(cols, start, stop)
            part = b.slice(f"columns{start}", x, [low], [high], [2 if self.classes_last else 1])
            block = cols[start:stop, low:high]
            if self.classes_last:
                band = b.op("MatMul", f"band{start}", b.const(f"cols{start}", block), part)
            else:
                band = b.op("MatMul", f"band{start}", part, b.const(f"cols{start}", np.ascontiguousarray(block.T)))
            flat = b.reshape(f"wide{start}", band, [h, n * c * (stop - start)])
            bands.append(self._strips(b, site, flat, start, stop - start))
        mask = bands[0] if len(bands) == 1 else b.op("Concat", "mask_columns", *bands, axis=1)
        if n == 1:
            return b.reshape("image", mask, [1, site.out_height, site.out_width])
        planes = b.reshape("planes", mask, [site.out_height, n, site.out_width])
        return b.transpose("images", planes, [1, 0, 2])

    def _strips(self, b: Builder, site: Site, band: gs.Tensor, left: int, width: int) -> gs.Tensor:
        """The classes (H * batch, width) of a band of columns, from its logits (h, batch * C * width)."""
        rows = weights(site.height, site.out_height, site.coordinates)
        row_bytes = 4 * site.batch * site.classes * width
        max_strips = -(-MAX_STRIPS * width // site.out_width)
        strip_rows = max(1, 1024 * self.strip_kb // row_bytes, -(-site.out_height // max_strips))
        shared: dict[tuple[int, bytes], gs.Constant] = {}
        strips = []
        for start in range(0, site.out_height, strip_rows):
            stop, role = min(start + strip_rows, site.out_height), f"{left}_{start}"
            low, high = read(rows, start, stop)
            block = np.ascontiguousarray(rows[start:stop, low:high])
            key = stop - start, block.tobytes()
            if key not in shared:
                shared[key] = b.const(f"rows{role}", block)
            part = b.slice(f"part{role}", band, [low], [high], [0])
            flat = b.op("MatMul", f"flat{role}", shared[key], part)
            strips.append(self._winner(b, site, flat, (stop - start) * site.batch, width, role))
        return strips[0] if len(strips) == 1 else b.op("Concat", f"mask{left}", *strips, axis=0)

    def _winner(self, b: Builder, site: Site, flat: gs.Tensor, lines: int, width: int, role: str) -> gs.Tensor:
        """The class of every pixel of a strip: (lines, width) of the narrow type."""
        if self.classes_last:
            pixels = b.reshape(f"strip{role}", flat, [lines, width, site.classes])
            index: gs.Tensor = b.op("ArgMax", f"index{role}", pixels, axis=2, keepdims=0)
        else:
            planes = b.reshape(f"strip{role}", flat, [lines, site.classes, width])
            found = b.split("TopK", (f"most{role}", f"first{role}"), planes, b.const(f"one{role}", [1]), axis=1)
            index = b.squeeze(f"index{role}", found[1], [1])
        return b.cast(f"narrow{role}", index, site.narrow)
