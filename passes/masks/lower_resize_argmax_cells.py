"""Spell segc.ResizeArgMax so that classes are interpolated only where neighbouring pixels have different winners.

For whole factors sy, sx the pixels between four neighbours of the small map, a cell, are sy x sx, with the same weights
in every cell. Bilinear weights are >= 0 and sum to 1, so where the four corners of a cell share their winner that class
wins in the whole cell. The others, the mixed cells, are gathered:

    winner  = ArgMax(x, C);  mixed = the four corners of winner differ
    corners = x at the four corners of the mixed cells            (4, k * C), C last
    mask    = cells that the winner of a corner fills; ScatterND of ArgMax(weights (sy * sx, 4) @ corners, C)

Done for so many mixed cells at a time, so that even noise, all of whose cells are mixed, never needs the large logits
at once. There are nodes for as many parts as noise needs; on a scene most of them are given nothing.
A weight is a product, rounded once: numbers differ from torch's by rounding only. Where rounding makes two classes
equal that differ at the corners, the one that is truly larger may win where argmax would take the lower index.

Infinite and NaN logits: the winner is ArgMax's; a cell whose corners agree does not look at them.

Must not fire: sizes that are not static, factors that are not whole, a batch other than 1, align_corners and
asymmetric coordinates (cells of different sizes), types other than float32. These go to lower-resize-argmax-tiled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from segc.passes.base import Pass, PassResult
from segc.passes.masks.lower_resize_argmax_tiled import LowerResizeArgMaxTiled
from segc.passes.support.builder import Builder, Cannot
from segc.passes.support.resize_argmax_site import Site, lower

HALF_PIXEL = ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric")
MOST_PARTS = 64
OTHERWISE = LowerResizeArgMaxTiled(strip_kb=1024, classes_last=True)  # the same runtimes find ArgMax fast


@dataclass(frozen=True)
class LowerResizeArgMaxCells(Pass):
    """Rewrite segc.ResizeArgMax by cells. part_kb: the most that resized logits take, in 1024 bytes."""

    name: ClassVar[str] = "lower-resize-argmax-cells"
    algebra: ClassVar[str] = "segc.ResizeArgMax(x, size)  ->  ArgMax(x) spread, mixed cells interpolated"
    gives: ClassVar[frozenset[str]] = frozenset({"no segc.ResizeArgMax"})

    part_kb: int = 4096

    def run(self, graph: gs.Graph) -> PassResult:
        """Lower each node where it stands."""
        return lower(graph, self.spell)

    def spell(self, b: Builder, site: Site) -> gs.Tensor:
        """The new nodes for one site. Raises Cannot."""
        return _Cells(b, site, 1024 * self.part_kb).spell() if fits(site) else OTHERWISE.spell(b, site)


def fits(site: Site) -> bool:
    """Whether all cells of the site are alike, and there are any."""
    whole = site.out_height % site.height == 0 and site.out_width % site.width == 0
    grows = site.out_height > site.height and site.out_width > site.width
    return whole and grows and site.batch == 1 and site.coordinates in HALF_PIXEL


class _Cells:
    """One site while it is spelled. The map is padded by one pixel, so that border pixels lie in cells too."""

    def __init__(self, b: Builder, site: Site, part_bytes: int) -> None:
        self.b, self.site = b, site
        self.tall, self.wide = site.out_height // site.height, site.out_width // site.width  # pixels of a cell
        self.rows, self.columns = site.height + 1, site.width + 1  # cells
        cell_bytes = 4 * site.classes * self.tall * self.wide
        self.step = max(1, part_bytes // cell_bytes, -(-self.rows * self.columns // MOST_PARTS))  # cells of a part
        if b.opset < 13:
            raise Cannot(f"opset {b.opset} has other spellings")

    def spell(self) -> gs.Tensor:
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
        found = [self._part(flat, four, weights, slice(at, at + self.step)) for at in range(0, cells, self.step)]
        whole = found[0] if len(found) == 1 else b.op("Concat", "found", *found, axis=0)
        whole = b.reshape("found_cells", whole, [-1, self.tall * self.wide])
        agreed = b.reshape("agreed_cells", b.cast("agreed", least, np.int64), [cells])
        base = b.op("Gather", "spread", b.const("full_cells", self._full_cells()), agreed, axis=0)
        grid = b.op("ScatterND", "all_cells", base, b.unsqueeze("places", mixed, [1]), whole)
        grid = b.reshape("grid", grid, [self.rows, self.columns, self.tall, self.wide])
        lines = b.transpose("lines", grid, [0, 2, 1, 3])
        image = b.reshape("image", lines, [1, self.rows * self.tall, self.columns * self.wide])
        top, left = self.tall - self.tall // 2, self.wide - self.wide // 2
        return self.b.slice("mask", image, [top, left], [top + site.out_height, left + site.out_width], [1, 2])

    def _extremes(self, flat: gs.Tensor) -> tuple[gs.Tensor, gs.Tensor]:
        """The largest and the smallest number of a winner at the corners of every cell: float32 (rows, columns)."""
        b, site = self.b, self.site
        numbers = b.cast("numbers", b.op("ArgMax", "winners", flat, axis=1, keepdims=0), np.float32)
        numbers = b.reshape("winner_map", numbers, [site.height + 2, site.width + 2])
        corners = [
            b.slice(f"winner{y}{x}", numbers, [y, x], [y + self.rows, x + self.columns], [0, 1])
            for y in (0, 1)
            for x in (0, 1)
        ]
        return b.op("Max", "most", *corners), b.op("Min", "least", *corners)

    def _part(self, flat: gs.Tensor, four: gs.Tensor, weights: gs.Tensor, part: slice) -> gs.Tensor:
        """Classes of the pixels of a part of the mixed cells, whose corners are `four` (4, n): narrow (n, pixels)."""
        b, classes, size, role = self.b, self.site.classes, self.tall * self.wide, str(part.start)
        where = b.slice(f"four{role}", four, [part.start], [part.stop], [1])
        corners = self._reshaped(f"lines{role}", b.op("Gather", f"corners{role}", flat, where, axis=0), [4, -1])
        values = b.op("MatMul", f"values{role}", weights, corners)
        values = self._reshaped(f"logits{role}", values, [size, -1, classes])
        index = b.op("ArgMax", f"index{role}", values, axis=2, keepdims=0)
        turned = b.transpose(f"turned{role}", b.cast(f"narrow{role}", index, self.site.narrow), [1, 0])
        # flat, or ONNX Runtime joins the parts first and turns them all at once, beyond its caches
        return self._reshaped(f"found{role}", turned, [-1])

    def _full_cells(self) -> np.ndarray:
        """narrow (classes, tall * wide): cells that one class fills. A row is copied faster than a number repeated."""
        classes = np.arange(self.site.classes, dtype=self.site.narrow)
        return np.repeat(classes[:, None], self.tall * self.wide, axis=1)

    def _reshaped(self, role: str, x: gs.Tensor, sizes: list[int]) -> gs.Tensor:
        return self.b.op("Reshape", role, x, self.b.const(f"{role}_shape", sizes))

    def _weights(self) -> np.ndarray:
        """float32 (tall * wide, 4): of the corners (0, 0), (0, 1), (1, 0), (1, 1) in every pixel of a cell."""
        down, across = (_phases(count) for count in (self.tall, self.wide))
        products = [np.outer(down[y], across[x]).ravel() for y in (0, 1) for x in (0, 1)]
        return np.stack(products, axis=1).astype(np.float32)


def _phases(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights of the two ends of a cell in each of its `count` pixels, for half-pixel coordinates."""
    part = (np.arange(count) + (0.5 if count % 2 == 0 else 0)) / count
    return 1 - part, part
