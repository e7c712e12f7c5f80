"""Lower segc.ResizeArgMax cell by cell: interpolate only where neighbouring pixels have different winners.

A cell is the sy x sx pixels of the result between four neighbours of the small map, for integer factors sy, sx; every
cell has the same weights. Bilinear weights are >= 0 and sum to 1, so if the four corners of a cell have the same
winner, that class wins in the whole cell. The other cells, the mixed cells, are gathered:

    winner  = ArgMax(x, C);  mixed = the four corners of winner differ
    corners = x at the four corners of the mixed cells            (4, k * C), C last
    mask    = cells filled with the winner of a corner; ScatterND of ArgMax(weights (sy * sx, 4) @ corners, C)

The mixed cells are processed in chunks, so that even noise, all of whose cells are mixed, never needs all the resized
logits at once. The graph has nodes for as many chunks as noise needs; on a photograph most chunks are empty. A weight
is a product, rounded once: numbers differ from torch's by rounding only. If rounding makes two classes equal that
differ at the corners, the truly larger one may win where argmax would take the lower index.

Infinite and NaN logits: the winner is that of ArgMax; a cell whose corners agree does not read them.

Must not fire: sizes that are not static, factors that are not integers, a batch other than 1, align_corners and
asymmetric coordinates (cells of different sizes), types other than float32. These go to lower-resize-argmax-tiled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph.invariants import PORTABLE
from segc.passes.base import Pass, PassResult
from segc.passes.masks.lower_resize_argmax_tiled import LowerResizeArgMaxTiled
from segc.passes.support.builder import Builder, RewriteNotApplicable
from segc.passes.support.resize_argmax_site import Site, lower

HALF_PIXEL = ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric")
MAX_CHUNKS = 64
FALLBACK = LowerResizeArgMaxTiled(strip_kb=1024, classes_last=True)  # fast where ArgMax is fast, as here


@dataclass(frozen=True)
class LowerResizeArgMaxCells(Pass):
    """Lower segc.ResizeArgMax by cells. part_kb: the most that the resized logits of a chunk take, in 1024 bytes."""

    name: ClassVar[str] = "lower-resize-argmax-cells"
    algebra: ClassVar[str] = "segc.ResizeArgMax(x, size)  ->  ArgMax(x) spread, mixed cells interpolated"
    requires: ClassVar[frozenset[str]] = Pass.requires | {PORTABLE, "argmax folded", "thresholds folded"}
    ensures: ClassVar[frozenset[str]] = frozenset({"no segc.ResizeArgMax"})
    invalidates: ClassVar[frozenset[str]] = frozenset(
        {"argmax folded", "no ArgMax", "identities removed", "lowerings merged", "static shapes"}
    )

    part_kb: int = 4096

    def run(self, graph: gs.Graph) -> PassResult:
        """Lower each node where it stands."""
        return lower(graph, self.build)

    def build(self, b: Builder, site: Site) -> gs.Tensor:
        """Build the nodes that replace one op. Raises RewriteNotApplicable."""
        return _Cells(b, site, 1024 * self.part_kb).build() if cells_are_uniform(site) else FALLBACK.build(b, site)


def cells_are_uniform(site: Site) -> bool:
    """Whether the map is enlarged by integer factors, so that all cells have the same weights."""
    integer_factors = site.out_height % site.height == 0 and site.out_width % site.width == 0
    grows = site.out_height > site.height and site.out_width > site.width
    return integer_factors and grows and site.batch == 1 and site.coordinates in HALF_PIXEL


class _Cells:
    """Builds the nodes for one op. The map is padded by one pixel, so that border pixels lie in cells too."""

    def __init__(self, b: Builder, site: Site, part_bytes: int) -> None:
        self.b, self.site = b, site
        self.scale_y, self.scale_x = site.out_height // site.height, site.out_width // site.width  # pixels of a cell
        self.rows, self.columns = site.height + 1, site.width + 1  # cells
        cell_bytes = 4 * site.classes * self.scale_y * self.scale_x
        self.chunk_cells = max(
            1, part_bytes // cell_bytes, -(-self.rows * self.columns // MAX_CHUNKS)
        )  # cells of a part
        if b.opset < 13:
            raise RewriteNotApplicable(f"this lowering needs opset 13, the graph has {b.opset}")

    def build(self) -> gs.Tensor:
        """All nodes, to the mask (1, H, W)."""
        b, site, cells = self.b, self.site, self.rows * self.columns
        pixels = b.transpose("pixels", site.x, [0, 2, 3, 1])
        padded = b.op("Pad", "padded", pixels, b.const("border", [0, 1, 1, 0, 0, 1, 1, 0]), mode="edge")
        flat = b.reshape("corners", padded, [(site.height + 2) * (site.width + 2), site.classes])
        most, least = self._extremes(flat)
        differ = b.reshape("mixed", b.op("Greater", "differ", most, least), [cells])
        numbers = b.op("Range", "numbers", *(b.const(f"range{at}", at) for at in (0, cells, 1)))
        mixed = b.op("Compress", "cells", numbers, differ, axis=0)  # sooner than NonZero
        # a line of corners is one longer than a line of cells
        line = b.op("Div", "line", mixed, b.const("columns", [self.columns]))
        first = b.op("Add", "first", mixed, line)
        offsets = b.const("offsets", [[0], [1], [self.columns + 1], [self.columns + 2]])  # of corners in the padded map
        weights = b.const("weights", self._weights())
        four = b.op("Add", "four", first, offsets)
        found = [
            self._chunk(flat, four, weights, slice(at, at + self.chunk_cells))
            for at in range(0, cells, self.chunk_cells)
        ]
        whole = found[0] if len(found) == 1 else b.op("Concat", "found", *found, axis=0)
        whole = b.reshape("found_cells", whole, [-1, self.scale_y * self.scale_x])
        agreed = b.reshape("agreed_cells", b.cast("agreed", least, np.int64), [cells])
        base = b.op("Gather", "spread", b.const("full_cells", self._uniform_cells()), agreed, axis=0)
        grid = b.op("ScatterND", "all_cells", base, b.unsqueeze("places", mixed, [1]), whole)
        grid = b.reshape("grid", grid, [self.rows, self.columns, self.scale_y, self.scale_x])
        lines = b.transpose("lines", grid, [0, 2, 1, 3])
        image = b.reshape("image", lines, [1, self.rows * self.scale_y, self.columns * self.scale_x])
        top, left = self.scale_y - self.scale_y // 2, self.scale_x - self.scale_x // 2
        return self.b.slice("mask", image, [top, left], [top + site.out_height, left + site.out_width], [1, 2])

    def _extremes(self, flat: gs.Tensor) -> tuple[gs.Tensor, gs.Tensor]:
        """The largest and the smallest winning class among the corners of each cell: float32 (rows, columns)."""
        b, site = self.b, self.site
        numbers = b.cast("numbers", b.op("ArgMax", "winners", flat, axis=1, keepdims=0), np.float32)
        numbers = b.reshape("winner_map", numbers, [site.height + 2, site.width + 2])
        corners = [
            b.slice(f"winner{y}{x}", numbers, [y, x], [y + self.rows, x + self.columns], [0, 1])
            for y in (0, 1)
            for x in (0, 1)
        ]
        return b.op("Max", "most", *corners), b.op("Min", "least", *corners)

    def _chunk(self, flat: gs.Tensor, four: gs.Tensor, weights: gs.Tensor, part: slice) -> gs.Tensor:
        """The classes of the pixels of a chunk of mixed cells, whose corners are `four` (4, n): narrow (n, pixels)."""
        b, classes, size, role = self.b, self.site.classes, self.scale_y * self.scale_x, str(part.start)
        where = b.slice(f"four{role}", four, [part.start], [part.stop], [1])
        corners = self._reshaped(f"lines{role}", b.op("Gather", f"corners{role}", flat, where, axis=0), [4, -1])
        values = b.op("MatMul", f"values{role}", weights, corners)
        values = self._reshaped(f"logits{role}", values, [size, -1, classes])
        index = b.op("ArgMax", f"index{role}", values, axis=2, keepdims=0)
        turned = b.transpose(f"turned{role}", b.cast(f"narrow{role}", index, self.site.narrow), [1, 0])
        # flat: otherwise ONNX Runtime concatenates first and transposes all chunks at once, beyond its caches
        return self._reshaped(f"found{role}", turned, [-1])

    def _uniform_cells(self) -> np.ndarray:
        """narrow (classes, scale_y * scale_x): a cell of each class; copying a row beats repeating a number."""
        classes = np.arange(self.site.classes, dtype=self.site.narrow)
        return np.repeat(classes[:, None], self.scale_y * self.scale_x, axis=1)

    def _reshaped(self, role: str, x: gs.Tensor, sizes: list[int]) -> gs.Tensor:
        return self.b.op("Reshape", role, x, self.b.const(f"{role}_shape", sizes))

    def _weights(self) -> np.ndarray:
        """float32 (scale_y * scale_x, 4): weights of corners (0, 0), (0, 1), (1, 0), (1, 1) in each pixel of a cell."""
        down, across = (_corner_weights(count) for count in (self.scale_y, self.scale_x))
        products = [np.outer(down[y], across[x]).ravel() for y in (0, 1) for x in (0, 1)]
        return np.stack(products, axis=1).astype(np.float32)


def _corner_weights(count: int) -> tuple[np.ndarray, np.ndarray]:
    """The weights of both ends of a cell in each of its `count` pixels, for half-pixel coordinates."""
    part = (np.arange(count) + (0.5 if count % 2 == 0 else 0)) / count
    return 1 - part, part
