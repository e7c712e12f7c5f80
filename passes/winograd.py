"""Convolve 3x3 by Winograd's algorithm F(2x2, 3x3): 16 products where the sum has 36.

Y = Conv(x, w, b), 3x3, stride 1, C channels to O, of a map of H x W, in T tiles of 2x2:

    V[k, c, t] = sum over the 4x4 pixels of tile t of (B^T . B)[k, pixel] * x[c, pixel]       16 numbers k for each tile
    U[k, o, c] = sum over the 3x3 taps of (G . G^T)[k, tap] * w[o, c, tap]
    M[k]       = U[k] V[k]                                                                     16 matrix products
    Y[o, t]    = sum over k of (A^T . A)[2x2 pixels of tile t, k] * M[k, o, t] + b

V is a convolution of each channel by itself, of 4x4 with stride 2, and Y one of the kind that enlarges; U is computed
when the engine is loaded, so that files keep their size. B and A hold 0, 1 and -1, G also 1/2: the algebra is exact,
and rounding is as in the direct sum. Larger tiles save more and round ten times as much, so they are not for silent
use. Direct: 9 C O H W products; this way 4 C O H W, and moving 16 (C + O) T numbers, which is what decides. Lavin and
Gray, Fast Algorithms for Convolutional Neural Networks, arXiv:1509.09308.

Must not fire: groups, strides, dilations, weights that are computed or of half precision, batches, sizes known at run
time only, few channels, few pixels. Infinite numbers would spread over their tile.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from segc.passes.base import Pass, PassResult
from segc.passes.build import Builder, Cannot, rewrite, standard, typed
from segc.passes.edit import optional

TAPS, TILE, SEEN = 3, 2, 4  # of the kernel, of a tile, of what a tile sees
B_T = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]], np.float32)
G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float32)
A_T = np.array([[1, 1, 1, 0], [0, 1, -1, -1]], np.float32)
# Measured with ONNX Runtime: a product takes 4.2 ps, moving a pixel of a channel into 16 numbers and back 3 ns in all
_CHANNELS = 190  # C O / (C + O) from which products saved outweigh numbers moved, by a third
_PRODUCTS = 1e8  # that the direct way takes at least
_WASTE = 1.15  # times the pixels that tiles may cover


class Winograd(Pass):
    """Spell wide 3x3 convolutions as 16 matrix products of transformed tiles."""

    name = "winograd"
    algebra = "Conv3x3(x, w)  ->  A^T [(G w G^T) (B^T x B)] A, tiles of 2x2: 4 products for 9"

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each convolution where it stands."""
        sites = [n for n in standard(graph, "Conv") if n.inputs[1].shape is not None and _is_3x3(n)]
        return rewrite(graph, sites, _spelled, PassResult())


def _is_3x3(conv: gs.Node) -> bool:
    plain = all(conv.attrs.get(name, [1, 1]) == [1, 1] for name in ("strides", "dilations"))
    return plain and list(conv.inputs[1].shape[2:]) == [TAPS, TAPS] and conv.attrs.get("group", 1) == 1


def _spelled(b: Builder) -> gs.Tensor:
    conv = b.node
    x, weights = conv.inputs[0], conv.inputs[1]
    typed(x, b.y)
    if not isinstance(weights, gs.Constant) or weights.dtype != np.float32:
        raise Cannot("its weights are computed, or not float32")
    if conv.attrs.get("auto_pad", "NOTSET") != "NOTSET" or b.opset < 13:
        raise Cannot("it pads by itself, or the opset is too old")
    out, given = (int(size) for size in weights.shape[:2])
    if given * out < _CHANNELS * (given + out):
        raise Cannot(f"{given} to {out} channels are too few")
    if not all(isinstance(size, (int, np.integer)) for size in (*x.shape, *b.y.shape)) or x.shape[0] != 1:
        raise Cannot("sizes are known at run time only, or it is a batch")
    height, width = (int(size) for size in b.y.shape[2:])
    down, across = -(-height // TILE), -(-width // TILE)
    if given * out * TAPS * TAPS * height * width < _PRODUCTS or TILE**2 * down * across > _WASTE * height * width:
        raise Cannot("it has too few pixels")

    seen = _tiles(b, x, given, (down, across))
    moved = b.op("MatMul", "products", _weights(b, weights, out, given), b.transpose("planes", seen, [1, 0, 2]))
    planes = b.reshape("grid", b.transpose("channels", moved, [1, 0, 2]), [out, SEEN**2, down, across])
    back = b.const("back", np.einsum("pi,ql->ilpq", A_T, A_T).reshape(SEEN**2, 1, TILE, TILE))
    tiled = b.op("ConvTranspose", "pixels", planes, back, strides=[TILE, TILE])
    whole = b.reshape("whole", tiled, [1, out, down * TILE, across * TILE])
    if (down * TILE, across * TILE) != (height, width):
        whole = b.slice("cut", whole, [0, 0], [height, width], [2, 3])
    bias = optional(conv, 2)
    return whole if bias is None else b.op("Add", "biased", whole, _column(b, bias, out))


def _tiles(b: Builder, x: gs.Tensor, channels: int, count: tuple[int, int]) -> gs.Tensor:
    """(channels, 16, tiles): what each tile sees, transformed."""
    pads = b.node.attrs.get("pads", [0, 0, 0, 0])
    sides = [TILE * tiles + TAPS - 1 for tiles in count]
    ends = [side - before - int(size) for side, before, size in zip(sides, pads[:2], x.shape[2:], strict=True)]
    edges = [0, 0, pads[0], pads[1], 0, 0, *ends]
    padded = b.op("Pad", "padded", x, b.const("edges", edges)) if any(edges) else x
    single = b.reshape("single", padded, [channels, 1, *sides])
    kernel = b.const("kernel", np.einsum("ia,lb->ilab", B_T, B_T).reshape(SEEN**2, 1, SEEN, SEEN))
    seen = b.op("Conv", "seen", single, kernel, strides=[TILE, TILE])
    return b.reshape("tiles", seen, [channels, SEEN**2, count[0] * count[1]])


def _weights(b: Builder, weights: gs.Constant, out: int, given: int) -> gs.Tensor:
    """(16, out, given), computed from the weights as they are stored."""
    taps = b.reshape("taps", weights, [out * given, TAPS**2])
    basis = b.const("basis", np.einsum("ia,lb->abil", G, G).reshape(TAPS**2, SEEN**2))
    turned = b.transpose("turned", b.op("MatMul", "combined", taps, basis), [1, 0])
    return b.reshape("matrices", turned, [SEEN**2, out, given])


def _column(b: Builder, bias: gs.Tensor, out: int) -> gs.Tensor:
    if isinstance(bias, gs.Constant):
        return b.const("bias", bias.values.reshape(1, out, 1, 1))
    return b.reshape("bias", bias, [1, out, 1, 1])
