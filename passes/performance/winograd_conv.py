"""Compute 3x3 convolutions by Winograd's algorithm F(4x4, 3x3): 36 multiplications where the direct sum has 144.

Y = Conv(x, w, b), 3x3, stride 1, C channels to O, of a map of H x W, in T tiles of 4x4:

    V[k, c, t] = sum over the 6x6 pixels that tile t reads of (B^T . B)[k, pixel] * x[c, pixel]    36 numbers k per tile
    U[k, o, c] = sum over the 3x3 taps of (G . G^T)[k, tap] * w[o, c, tap]
    M[k]       = U[k] V[k]                                                                         36 matrix products
    Y[o, t]    = sum over k of (A^T . A)[4x4 pixels of tile t, k] * M[k, o, t] + b

V is a depthwise convolution, 6x6 with stride 4. U is computed when the engine is loaded: files keep their size, memory
holds four times these weights. The direct sum takes 9 C O H W multiplications, Winograd 2.25 C O H W, but it moves
2.25 (C + O) H W numbers to the transformed domain and back, which decides whether it pays. Lavin and Gray, Fast
Algorithms for Convolutional Neural Networks, arXiv:1509.09308.

The algebra is exact for any five interpolation points, but the rounding depends on them, since the sums over C are of
numbers that nearly cancel afterwards. Compared with float64 at 512 channels, the direct sum is off by 2e-7 of the
largest number; the usual points 0, 1, -1, 2, -2 are off by 2e-5; 0, 3/4, -3/4, 3/2, -3/2, whose powers stay near 1, by
4e-6, which is one decimal digit of seven (tests/passes/performance/test_winograd_conv.py). A whole network differs from
PyTorch as much as without Winograd, or little more: its other layers round too (docs/measurements.md).

A convolution with dilation d equals one convolution per phase: the d x d phases are the maps of every d-th pixel. The
map is split into its phases first (SpaceToDepth), all tiles are computed together, and the phases are interleaved
again.

Must not fire: groups; strides; dilations that differ by axis or change the size; weights that are computed or not
float32; sizes of which nothing is known; few channels; few pixels. Infinite numbers would spread over their tile.
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
from segc.passes.support.builder import Axis, Builder, RewriteNotApplicable, rewrite, standard, typed
from segc.passes.support.costs import ASSUMED_SIDE
from segc.passes.support.edit import optional

Size = int | Axis | list[int | Axis]

TAPS, TILE, PATCH = 3, 4, 6  # sides of the kernel, of a tile of the result, of the patch that a tile reads
POINTS = (0.0, 0.75, -0.75, 1.5, -1.5)  # and infinity
_MIN_PRODUCTS = 1e8  # multiplications of the direct form from which the rewrite pays
_MIN_TILES = 32  # with fewer, reading four times the weights dominates
_WASTE = 1.3  # pixels that the tiles may cover, relative to those of the result
_CACHE_CONFLICT = 512  # float32 numbers: 36 rows at this stride fall into the same sets of the first-level cache


def matrices(points: tuple[float, ...] = POINTS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A^T (4, 6), G (6, 3) and B^T (6, 6) in float64, by the Toom-Cook algorithm at five points and infinity.

    A^T [(G w) * (B^T x)] is the sum over the taps i of w[i] * x[pixel + i].
    """
    finite = np.array(points)
    other_points = [np.delete(finite, i) for i in range(len(finite))]
    scales = np.array([np.prod(point - others) for point, others in zip(finite, other_points, strict=True)])
    a_t, g, b_t = np.zeros((TILE, PATCH)), np.zeros((PATCH, TAPS)), np.zeros((PATCH, PATCH))
    a_t[:, :-1] = finite ** np.arange(TILE)[:, None]
    g[:-1] = finite[:, None] ** np.arange(TAPS) / scales[:, None]
    b_t[:-1, :-1] = [np.poly(others)[::-1] for others in other_points]
    a_t[-1, -1] = g[-1, -1] = 1
    b_t[-1] = np.poly(finite)[::-1]
    return a_t, g, b_t


@dataclass(frozen=True)
class WinogradConv(Pass):
    """Rewrite wide 3x3 convolutions as 36 matrix products of transformed tiles.

    channels, dilated_channels: C O / (C + O) from which the rewrite is worth its rounding. by_products: transform back
    by a matrix product and a Transpose, which is faster in OpenVINO, not by a ConvTranspose, faster in ONNX Runtime.
    """

    name: ClassVar[str] = "winograd"
    algebra: ClassVar[str] = "Conv3x3(x, w)  ->  A^T [(G w G^T) (B^T x B)] A, tiles of 4x4: 2.25 multiplications for 9"
    requires: ClassVar[frozenset[str]] = Pass.requires | {"channel blocks filled"}
    invalidates: ClassVar[frozenset[str]] = frozenset({PORTABLE, "constants folded"})

    channels: int = 170
    dilated_channels: int = 150
    by_products: bool = False

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each convolution where it stands."""
        sites = [n for n in standard(graph, "Conv") if n.inputs[1].shape is not None and _is_3x3(n)]
        return rewrite(graph, sites, self._build, PassResult())

    def _build(self, b: Builder) -> gs.Tensor:
        conv = b.node
        x, weights = conv.inputs[0], conv.inputs[1]
        typed(x, b.y)
        if not isinstance(weights, gs.Constant) or weights.dtype != np.float32:
            raise RewriteNotApplicable("its weights are computed, or not float32")
        if conv.attrs.get("auto_pad", "NOTSET") != "NOTSET" or b.opset < 13:
            raise RewriteNotApplicable("it has auto_pad, or the opset is below 13")
        site = _Winograd(b)
        self._require_gain(site)
        all_tiles = site.crop(site.by_products() if self.by_products else site.by_transposed_convolution())
        bias = optional(conv, 2)
        return (
            all_tiles
            if bias is None
            else b.op("Add", "biased", all_tiles, _bias_per_channel(b, bias, site.out_channels))
        )

    def _require_gain(self, site: _Winograd) -> None:
        # If the size of the result is unknown, that of the input serves: they differ by a few pixels
        pairs = zip(site.b.y.shape[2:], site.x.shape[2:], strict=True)
        height, width = (estimate(of_y, ASSUMED_SIDE) or estimate(of_x, ASSUMED_SIDE) for of_y, of_x in pairs)
        if height is None or width is None:
            raise RewriteNotApplicable("its size is unknown")
        least = self.channels if site.dilation == 1 else self.dilated_channels
        if site.in_channels * site.out_channels < least * (site.in_channels + site.out_channels):
            raise RewriteNotApplicable(f"{site.in_channels} to {site.out_channels} channels are too few")
        pixels, tiles = height * width, site.phases * _tiles_per_phase(height, width, site.dilation)
        few = site.in_channels * site.out_channels * TAPS**2 * pixels < _MIN_PRODUCTS or tiles < _MIN_TILES
        if few or tiles * TILE**2 > _WASTE * pixels:
            raise RewriteNotApplicable("it has too few pixels")


def _is_3x3(conv: gs.Node) -> bool:
    if list(conv.inputs[1].shape[2:]) != [TAPS, TAPS]:
        return False
    down, across = conv.attrs.get("dilations", [1, 1])
    plain = conv.attrs.get("strides", [1, 1]) == [1, 1] and conv.attrs.get("group", 1) == 1
    return bool(plain and down == across)


def _tiles_per_phase(height: int, width: int, dilation: int) -> int:
    """The number of tiles of one phase of a map."""
    return -(-height // (TILE * dilation)) * -(-width // (TILE * dilation))


def _static(sides: Sequence[object]) -> bool:
    return all(isinstance(side, (int, np.integer)) for side in sides)


class _Winograd:
    """Builds the nodes that replace one convolution."""

    def __init__(self, b: Builder) -> None:
        self.b = b
        self.x, self.weights = b.node.inputs[:2]
        self.out_channels, self.in_channels = (int(size) for size in self.weights.shape[:2])
        self.pads: list[int] = b.node.attrs.get("pads", [0, 0, 0, 0])
        self.dilation = int(b.node.attrs.get("dilations", [1, 1])[0])
        self.phases = self.dilation**2
        self.single_image = bool(self.x.shape[0] == 1)  # the batch is known to be 1, which saves an axis
        if self.dilation > 1 and self.pads != [self.dilation] * 4:
            raise RewriteNotApplicable("its dilation changes the size")

    def transformed_tiles(self, spare_columns: int = 0) -> gs.Tensor:
        """V as (N C phases, 36, tiles down, tiles across). spare_columns: further columns of tiles, not needed."""
        b, x = self.b, self.x
        if self.dilation == 1:
            top, left, bottom, right = self.pads
            single = b.op("Reshape", "single", x, b.const("single_shape", [-1, 1, 0, 0]))
        else:
            top = left = bottom = right = 1
            planes = b.op("Reshape", "planes", self._padded_to_phases(), b.const("planes_shape", [-1, 1, 0, 0]))
            phases = b.op("SpaceToDepth", "maps", planes, blocksize=self.dilation)
            single = b.op("Reshape", "single", phases, b.const("single_shape", [-1, 1, 0, 0]))
        _, _, b_t = matrices()
        kernel = b.const("kernel", _squared(b_t).reshape(PATCH**2, 1, PATCH, PATCH), np.float32)
        pads = [
            top,
            left,
            bottom + TILE - 1,
            right + TILE - 1 + spare_columns * TILE,
        ]  # the last tiles may reach beyond the edge
        return b.op("Conv", "seen", single, kernel, strides=[TILE, TILE], pads=pads)

    def _padded_to_phases(self) -> gs.Tensor:
        """x, padded with zeros at the end so that all phases have the same size."""
        b, x, sides = self.b, self.x, self.x.shape[2:]
        if _static(sides):
            missing = [-side % self.dilation for side in sides]
            return b.op("Pad", "even", x, b.const("even_pads", [0] * 6 + missing)) if any(missing) else x
        less = b.op("Neg", "less", b.slice("even_sides", b.op("Shape", "even_sizes", x), [2], [4], [0]))
        missing_pixels = b.op("Mod", "missing", less, b.const("apart", [self.dilation]))
        return b.op("Pad", "even", x, b.op("Concat", "even_pads", b.const("none", [0] * 6), missing_pixels, axis=0))

    def _products(self, transformed_tiles: gs.Tensor) -> gs.Tensor:
        """M as (N, 36, O, phases x tiles), without N if the batch is 1."""
        b, in_channels, phases = self.b, self.in_channels, [self.phases] if self.phases > 1 else []
        taps = b.transpose(
            "taps", b.reshape("weights", self.weights, [self.out_channels * in_channels, TAPS**2]), [1, 0]
        )
        _, g, _ = matrices()
        combined = b.op("MatMul", "combined", b.const("basis", _squared(g), np.float32), taps)
        transformed = b.reshape("matrices", combined, [PATCH**2, self.out_channels, in_channels])
        batch_axis, batch = [0], transformed_tiles
        if self.single_image:
            batch_axis = []
        else:
            all_tiles = [-1, in_channels * self.phases * PATCH**2, 0, 0]
            batch = b.op("Reshape", "batch", transformed_tiles, b.const("batch_shape", all_tiles))
        tiles = b.op(
            "Reshape", "tiles", batch, b.const("tiles_shape", [*batch_axis, in_channels, *phases, PATCH**2, -1])
        )
        first, last = len(batch_axis), len(tiles.shape) - 1
        order = [*range(first), last - 1, *range(first, last - 1), last]
        planes = b.transpose("numbers", tiles, order)
        if phases:
            planes = b.op(
                "Reshape", "joined", planes, b.const("joined_shape", [*batch_axis, PATCH**2, in_channels, -1])
            )
        return b.op("MatMul", "products", transformed, planes)

    def by_transposed_convolution(self) -> gs.Tensor:
        """(N, O, whole tiles down, whole tiles across)."""
        b, batch_channels = self.b, _product((self.x, 0), self.out_channels)
        transformed_tiles = self.transformed_tiles()
        a_t, _, _ = matrices()
        inverse = b.const("back", _squared(a_t).T.reshape(PATCH**2, 1, TILE, TILE), np.float32)
        channels = b.transpose(
            "channels", self._products(transformed_tiles), [1, 0, 2] if self.single_image else [0, 2, 1, 3]
        )
        grid = b.reshape(
            "grid",
            channels,
            [batch_channels, PATCH**2, _product((transformed_tiles, 2), self.phases), (transformed_tiles, 3)],
        )
        tiled = b.op("ConvTranspose", "pixels", grid, inverse, strides=[TILE, TILE])
        if self.phases > 1:
            down, across = (_product((transformed_tiles, axis), TILE) for axis in (2, 3))
            dilation = b.reshape("apart", tiled, [batch_channels, self.phases, down, across])
            tiled = b.op("DepthToSpace", "together", dilation, blocksize=self.dilation)
        return b.op("Reshape", "whole", tiled, b.const("whole_shape", [-1, self.out_channels, 0, 0]))

    def by_products(self) -> gs.Tensor:
        """(N, O, whole tiles down, whole tiles across)."""
        b, sides = self.b, self.b.y.shape[2:]
        # Rows of tiles at this stride share the sets of a cache: with one more column OpenVINO transposes (tiles, 36)
        # to (36, tiles) in a third of the time
        transformed_tiles = self.transformed_tiles(
            int(_static(sides) and _tiles_per_phase(sides[0], sides[1], self.dilation) % _CACHE_CONFLICT == 0)
        )
        a_t, _, _ = matrices()
        inverse = b.const("back", _squared(a_t), np.float32)
        batch_axis = [] if self.single_image else [0]
        flat = b.op(
            "Reshape", "flat", self._products(transformed_tiles), b.const("flat_shape", [*batch_axis, PATCH**2, -1])
        )
        sizes: list[Size] = [] if self.single_image else [(self.x, 0)]
        sizes += [
            TILE,
            TILE,
            self.out_channels,
            self.dilation,
            self.dilation,
            (transformed_tiles, 2),
            (transformed_tiles, 3),
        ]
        grid = b.reshape("grid", b.op("MatMul", "pixels", inverse, flat), sizes)
        order = [2, 5, 0, 3, 6, 1, 4]  # channel; row of tiles, row in the tile, map; column of tiles, ...
        tiled = b.transpose("tiled", grid, order if self.single_image else [0, *(axis + 1 for axis in order)])
        down, across = (_product((transformed_tiles, axis), TILE * self.dilation) for axis in (2, 3))
        return b.reshape("whole", tiled, [(self.x, 0), self.out_channels, down, across])

    def crop(self, all_tiles: gs.Tensor) -> gs.Tensor:
        """`all_tiles` without the pixels beyond the edge of the result."""
        b, sides = self.b, list(self.b.y.shape[2:])
        if _static(sides):
            return all_tiles if sides == list(all_tiles.shape[2:]) else b.slice("cut", all_tiles, [0, 0], sides, [2, 3])
        reach = self.dilation * (TAPS - 1)
        added = [self.pads[0] + self.pads[2] - reach, self.pads[1] + self.pads[3] - reach]
        ends = b.slice("sides", b.op("Shape", "sizes", self.x), [2], [4], [0])
        if any(added):
            ends = b.op("Add", "ends", ends, b.const("added", added))
        starts, axes = b.const("starts", [0, 0]), b.const("axes", [2, 3])
        return b.op("Slice", "cut", all_tiles, starts, ends, axes)


def _product(side: Axis, factor: int) -> list[int | Axis]:
    return [side, factor]


def _squared(matrix: np.ndarray) -> np.ndarray:
    """The matrix that applies `matrix` along both axes: (rows x rows, columns x columns)."""
    return np.kron(matrix, matrix)


def _bias_per_channel(b: Builder, bias: gs.Tensor, out_channels: int) -> gs.Tensor:
    if isinstance(bias, gs.Constant):
        return b.const("bias", bias.values.reshape(1, out_channels, 1, 1))
    return b.reshape("bias", bias, [1, out_channels, 1, 1])
