"""Convolve 3x3 by WinogradConv's algorithm F(4x4, 3x3): 36 products where the sum has 144.

Y = Conv(x, w, b), 3x3, stride 1, C channels to O, of a map of H x W, in T tiles of 4x4:

    V[k, c, t] = sum over the 6x6 pixels that tile t sees of (B^T . B)[k, pixel] * x[c, pixel]     36 numbers k a tile
    U[k, o, c] = sum over the 3x3 taps of (G . G^T)[k, tap] * w[o, c, tap]
    M[k]       = U[k] V[k]                                                                         36 matrix products
    Y[o, t]    = sum over k of (A^T . A)[4x4 pixels of tile t, k] * M[k, o, t] + b

V is a convolution of each channel by itself, of 6x6 with stride 4. U is computed when the engine is loaded: files keep
their size, memory holds four times these weights. Direct: 9 C O H W products; this way 2.25 C O H W, and moving
2.25 (C + O) H W numbers there and back, which decides. Lavin and Gray, Fast Algorithms for Convolutional Neural
Networks, arXiv:1509.09308.

The algebra is exact at any five points; how it rounds hangs on them, since sums over C are taken of numbers that nearly
cancel afterwards. Against float64, 512 channels, the direct sum is off by 2e-7 of the largest number, the usual points
0, 1, -1, 2, -2 by 2e-5, and 0, 3/4, -3/4, 3/2, -3/2, whose powers stay near 1, by 4e-6: a digit, of seven
(tests/passes/performance/test_winograd_conv.py). A whole network differs from PyTorch as much as
without it, or little more: its other layers round too (docs/measurements.md).

A convolution that is dilated by d is one of each of the d x d maps that pixels d apart make up: their tiles are taken
together, and the map is taken apart before and put together after.

Must not fire: groups, strides, dilations of two kinds or that change the size, weights that are computed or not
float32, sizes of which nothing is known, few channels, few pixels. Infinite numbers would spread over their tile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph.analysis.symbolic_sizes import estimate
from segc.graph.invariants import PORTABLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Axis, Builder, Cannot, rewrite, standard, typed
from segc.passes.support.costs import ASSUMED_SIDE
from segc.passes.support.edit import optional

Size = int | Axis | list[int | Axis]

TAPS, TILE, SEEN = 3, 4, 6  # of the kernel, of a tile, of what a tile sees
POINTS = (0.0, 0.75, -0.75, 1.5, -1.5)  # and infinity
_PRODUCTS = 1e8  # that the direct way takes at least
_LEAST_TILES = 32  # with fewer, most of the time goes into reading four times the weights
_WASTE = 1.3  # times the pixels that tiles may cover
_COLLIDE = 512  # numbers of 4 bytes: 36 rows at this distance do not fit into the first cache together


def matrices(points: tuple[float, ...] = POINTS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A^T (4, 6), G (6, 3) and B^T (6, 6) in float64: Toom and Cook's algorithm at five points and infinity, so that
    A^T [(G w) * (B^T x)] is the sum over the taps i of w[i] * x[pixel + i].
    """
    finite = np.array(points)
    others = [np.delete(finite, at) for at in range(len(finite))]
    scale = np.array([np.prod(point - rest) for point, rest in zip(finite, others, strict=True)])
    a_t, g, b_t = np.zeros((TILE, SEEN)), np.zeros((SEEN, TAPS)), np.zeros((SEEN, SEEN))
    a_t[:, :-1] = finite ** np.arange(TILE)[:, None]
    g[:-1] = finite[:, None] ** np.arange(TAPS) / scale[:, None]
    b_t[:-1, :-1] = [np.poly(rest)[::-1] for rest in others]
    a_t[-1, -1] = g[-1, -1] = 1
    b_t[-1] = np.poly(finite)[::-1]
    return a_t, g, b_t


@dataclass(frozen=True)
class WinogradConv(Pass):
    """Spell wide 3x3 convolutions as 36 matrix products of transformed tiles.

    channels, dilated_channels: C O / (C + O) from which it is worth its rounding. by_products: the result by a matrix
    product and a Transpose, which OpenVINO prefers, rather than a ConvTranspose, which ONNX Runtime does.
    """

    name: ClassVar[str] = "winograd"
    algebra: ClassVar[str] = "Conv3x3(x, w)  ->  A^T [(G w G^T) (B^T x B)] A, tiles of 4x4: 2.25 products for 9"
    requires: ClassVar[frozenset[str]] = Pass.requires | {"channel blocks filled"}
    invalidates: ClassVar[frozenset[str]] = frozenset({PORTABLE, "constants folded"})

    channels: int = 170
    dilated_channels: int = 150
    by_products: bool = False

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each convolution where it stands."""
        sites = [n for n in standard(graph, "Conv") if n.inputs[1].shape is not None and _is_3x3(n)]
        return rewrite(graph, sites, self._spelled, PassResult())

    def _spelled(self, b: Builder) -> gs.Tensor:
        conv = b.node
        x, weights = conv.inputs[0], conv.inputs[1]
        typed(x, b.y)
        if not isinstance(weights, gs.Constant) or weights.dtype != np.float32:
            raise Cannot("its weights are computed, or not float32")
        if conv.attrs.get("auto_pad", "NOTSET") != "NOTSET" or b.opset < 13:
            raise Cannot("it pads by itself, or the opset is too old")
        site = _Site(b)
        self._require_gain(site)
        whole = site.cut(site.by_products() if self.by_products else site.by_transposed_convolution())
        bias = optional(conv, 2)
        return whole if bias is None else b.op("Add", "biased", whole, _column(b, bias, site.out))

    def _require_gain(self, site: _Site) -> None:
        # The input tells of results whose sizes no rule could name, and the two differ by a few pixels
        pairs = zip(site.b.y.shape[2:], site.x.shape[2:], strict=True)
        height, width = (estimate(out, ASSUMED_SIDE) or estimate(given, ASSUMED_SIDE) for out, given in pairs)
        if height is None or width is None:
            raise Cannot("nothing is known of its size")
        least = self.channels if site.apart == 1 else self.dilated_channels
        if site.given * site.out < least * (site.given + site.out):
            raise Cannot(f"{site.given} to {site.out} channels are too few")
        pixels, tiles = height * width, site.maps * _tiles(height, width, site.apart)
        few = site.given * site.out * TAPS**2 * pixels < _PRODUCTS or tiles < _LEAST_TILES
        if few or tiles * TILE**2 > _WASTE * pixels:
            raise Cannot("it has too few pixels")


def _is_3x3(conv: gs.Node) -> bool:
    if list(conv.inputs[1].shape[2:]) != [TAPS, TAPS]:
        return False
    down, across = conv.attrs.get("dilations", [1, 1])
    plain = conv.attrs.get("strides", [1, 1]) == [1, 1] and conv.attrs.get("group", 1) == 1
    return bool(plain and down == across)


def _tiles(height: int, width: int, apart: int) -> int:
    """Of one of the maps that pixels `apart` from each other make up."""
    return -(-height // (TILE * apart)) * -(-width // (TILE * apart))


def _known(sides: Sequence[object]) -> bool:
    return all(isinstance(side, (int, np.integer)) for side in sides)


class _Site:
    """One convolution while it is spelled anew."""

    def __init__(self, b: Builder) -> None:
        self.b = b
        self.x, self.weights = b.node.inputs[:2]
        self.out, self.given = (int(size) for size in self.weights.shape[:2])
        self.pads: list[int] = b.node.attrs.get("pads", [0, 0, 0, 0])
        self.apart = int(b.node.attrs.get("dilations", [1, 1])[0])
        self.maps = self.apart**2
        self.one = bool(self.x.shape[0] == 1)  # known to be no batch, which saves an axis
        if self.apart > 1 and self.pads != [self.apart] * 4:
            raise Cannot("it is dilated and changes the size")

    def seen(self, more: int = 0) -> gs.Tensor:
        """(N C maps, 36, tiles down, tiles across): what each tile sees, transformed. more: columns of tiles that are
        not needed.
        """
        b, x = self.b, self.x
        if self.apart == 1:
            top, left, bottom, right = self.pads
            single = b.op("Reshape", "single", x, b.const("single_shape", [-1, 1, 0, 0]))
        else:
            top = left = bottom = right = 1
            planes = b.op("Reshape", "planes", self._even(), b.const("planes_shape", [-1, 1, 0, 0]))
            maps = b.op("SpaceToDepth", "maps", planes, blocksize=self.apart)
            single = b.op("Reshape", "single", maps, b.const("single_shape", [-1, 1, 0, 0]))
        _, _, b_t = matrices()
        kernel = b.const("kernel", _squared(b_t).reshape(SEEN**2, 1, SEEN, SEEN), np.float32)
        pads = [top, left, bottom + TILE - 1, right + TILE - 1 + more * TILE]  # the last tiles may reach over the edge
        return b.op("Conv", "seen", single, kernel, strides=[TILE, TILE], pads=pads)

    def _even(self) -> gs.Tensor:
        """x with zeros after it, so that all its maps are of one size."""
        b, x, sides = self.b, self.x, self.x.shape[2:]
        if _known(sides):
            missing = [-side % self.apart for side in sides]
            return b.op("Pad", "even", x, b.const("even_pads", [0] * 6 + missing)) if any(missing) else x
        less = b.op("Neg", "less", b.slice("even_sides", b.op("Shape", "even_sizes", x), [2], [4], [0]))
        missed = b.op("Mod", "missing", less, b.const("apart", [self.apart]))
        return b.op("Pad", "even", x, b.op("Concat", "even_pads", b.const("none", [0] * 6), missed, axis=0))

    def _products(self, seen: gs.Tensor) -> gs.Tensor:
        """(N, 36, O, maps x tiles), without N where it is one."""
        b, given, maps = self.b, self.given, [self.maps] if self.maps > 1 else []
        taps = b.transpose("taps", b.reshape("weights", self.weights, [self.out * given, TAPS**2]), [1, 0])
        _, g, _ = matrices()
        combined = b.op("MatMul", "combined", b.const("basis", _squared(g), np.float32), taps)
        transformed = b.reshape("matrices", combined, [SEEN**2, self.out, given])
        front, batch = [0], seen
        if self.one:
            front = []
        else:
            whole = [-1, given * self.maps * SEEN**2, 0, 0]
            batch = b.op("Reshape", "batch", seen, b.const("batch_shape", whole))
        tiles = b.op("Reshape", "tiles", batch, b.const("tiles_shape", [*front, given, *maps, SEEN**2, -1]))
        first, last = len(front), len(tiles.shape) - 1
        order = [*range(first), last - 1, *range(first, last - 1), last]
        planes = b.transpose("numbers", tiles, order)
        if maps:
            planes = b.op("Reshape", "joined", planes, b.const("joined_shape", [*front, SEEN**2, given, -1]))
        return b.op("MatMul", "products", transformed, planes)

    def by_transposed_convolution(self) -> gs.Tensor:
        """(N, O, whole tiles down, whole tiles across)."""
        b, many = self.b, _product((self.x, 0), self.out)
        seen = self.seen()
        a_t, _, _ = matrices()
        back = b.const("back", _squared(a_t).T.reshape(SEEN**2, 1, TILE, TILE), np.float32)
        channels = b.transpose("channels", self._products(seen), [1, 0, 2] if self.one else [0, 2, 1, 3])
        grid = b.reshape("grid", channels, [many, SEEN**2, _product((seen, 2), self.maps), (seen, 3)])
        tiled = b.op("ConvTranspose", "pixels", grid, back, strides=[TILE, TILE])
        if self.maps > 1:
            down, across = (_product((seen, axis), TILE) for axis in (2, 3))
            apart = b.reshape("apart", tiled, [many, self.maps, down, across])
            tiled = b.op("DepthToSpace", "together", apart, blocksize=self.apart)
        return b.op("Reshape", "whole", tiled, b.const("whole_shape", [-1, self.out, 0, 0]))

    def by_products(self) -> gs.Tensor:
        """(N, O, whole tiles down, whole tiles across)."""
        b, sides = self.b, self.b.y.shape[2:]
        # Rows of tiles at distances that share a cache's sets: OpenVINO turns (tiles, 36) to (36, tiles) in a third of
        # the time with one more column
        seen = self.seen(int(_known(sides) and _tiles(sides[0], sides[1], self.apart) % _COLLIDE == 0))
        a_t, _, _ = matrices()
        back = b.const("back", _squared(a_t), np.float32)
        front = [] if self.one else [0]
        flat = b.op("Reshape", "flat", self._products(seen), b.const("flat_shape", [*front, SEEN**2, -1]))
        sizes: list[Size] = [] if self.one else [(self.x, 0)]
        sizes += [TILE, TILE, self.out, self.apart, self.apart, (seen, 2), (seen, 3)]
        grid = b.reshape("grid", b.op("MatMul", "pixels", back, flat), sizes)
        order = [2, 5, 0, 3, 6, 1, 4]  # channel; row of tiles, row in the tile, map; column of tiles, ...
        tiled = b.transpose("tiled", grid, order if self.one else [0, *(at + 1 for at in order)])
        down, across = (_product((seen, axis), TILE * self.apart) for axis in (2, 3))
        return b.reshape("whole", tiled, [(self.x, 0), self.out, down, across])

    def cut(self, whole: gs.Tensor) -> gs.Tensor:
        """Without the pixels of the last tiles that are beyond the edge."""
        b, sides = self.b, list(self.b.y.shape[2:])
        if _known(sides):
            return whole if sides == list(whole.shape[2:]) else b.slice("cut", whole, [0, 0], sides, [2, 3])
        reach = self.apart * (TAPS - 1)
        added = [self.pads[0] + self.pads[2] - reach, self.pads[1] + self.pads[3] - reach]
        ends = b.slice("sides", b.op("Shape", "sizes", self.x), [2], [4], [0])
        if any(added):
            ends = b.op("Add", "ends", ends, b.const("added", added))
        starts, axes = b.const("starts", [0, 0]), b.const("axes", [2, 3])
        return b.op("Slice", "cut", whole, starts, ends, axes)


def _product(side: Axis, factor: int) -> list[int | Axis]:
    return [side, factor]


def _squared(matrix: np.ndarray) -> np.ndarray:
    """The matrix of both axes: (rows x rows, columns x columns)."""
    return np.kron(matrix, matrix)


def _column(b: Builder, bias: gs.Tensor, out: int) -> gs.Tensor:
    if isinstance(bias, gs.Constant):
        return b.const("bias", bias.values.reshape(1, out, 1, 1))
    return b.reshape("bias", bias, [1, out, 1, 1])
