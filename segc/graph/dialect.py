"""The `segc` dialect, version 1: ops that ONNX does not have and that each target lowers in its own way.

Each op has a shape rule and a reference body, an ONNX function of standard ops (opset 15 or later), so that ONNX
Runtime runs graphs that contain the op.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_graphsurgeon as gs

DOMAIN = "segc"
RESIZE_ARGMAX = "ResizeArgMax"

Dim = int | str | None
TypeAndShape = tuple[Any, list[Dim]]


@dataclass(frozen=True)
class DialectOp:
    """One op. summary: its meaning in a line. infer: its shape rule. body: ONNX text without the function header."""

    name: str
    summary: str
    signature: str  # "<attributes> (inputs) => (outputs)"
    body: str
    infer: Callable[[gs.Node], Sequence[TypeAndShape]]


def _adaptive_avg_pool_shape(node: gs.Node) -> Sequence[TypeAndShape]:
    x = node.inputs[0]
    kept = list(x.shape[:-2])
    sides = [
        side if bins == -1 else int(bins) for bins, side in zip(node.attrs["output_size"], x.shape[-2:], strict=True)
    ]
    return [(x.dtype, kept + sides)]


def _resize_argmax_shape(node: gs.Node) -> Sequence[TypeAndShape]:
    x, size = node.inputs[0], node.inputs[1]
    sides: list[Dim] = [int(s) for s in size.values] if isinstance(size, gs.Constant) else [None, None]
    return [(np.dtype(np.int64), [x.shape[0], 1, *sides])]


def _psa_mask_shape(node: gs.Node) -> Sequence[TypeAndShape]:
    x = node.inputs[0]
    batch, _, height, width = x.shape
    cells = height * width if isinstance(height, int) and isinstance(width, int) else None
    return [(x.dtype, [batch, cells, height, width])]


# Of n bins over a side of length s, bin i averages the cells floor(i*s/n) <= cell < ceil((i+1)*s/n). Bins overlap
# unless n divides s. An output_size of -1 (torch's None) keeps the side: then n = s, and each bin is one cell.
_BINS = """
    {axis}_n = Where({axis}_keep, {axis}_side, {axis}_wanted)
    {axis}_i = Range(zero, {axis}_n, one)
    {axis}_scaled = Mul({axis}_i, {axis}_side)
    {axis}_low = Div({axis}_scaled, {axis}_n)
    {axis}_next = Add({axis}_scaled, {axis}_side)
    {axis}_spare = Sub({axis}_n, one)
    {axis}_above = Add({axis}_next, {axis}_spare)
    {axis}_high = Div({axis}_above, {axis}_n)
    {axis}_cell = Range(zero, {axis}_side, one)
    {axis}_low2 = Unsqueeze({axis}_low, last)
    {axis}_high2 = Unsqueeze({axis}_high, last)
    {axis}_before = Less({axis}_cell, {axis}_low2)
    {axis}_from = Not({axis}_before)
    {axis}_till = Less({axis}_cell, {axis}_high2)
    {axis}_in = And({axis}_from, {axis}_till)
    {axis}_inx = CastLike({axis}_in, x)
    {axis}_count = Sub({axis}_high2, {axis}_low2)
    {axis}_size = CastLike({axis}_count, x)
    {axis}_bins = Div({axis}_inx, {axis}_size)
"""

_SIDE = """
    {axis}_at = Constant<value_int = {at}>()
    {axis}_side = Gather(shape, {axis}_at)
    {axis}_wanted = Gather(wanted, {axis}_at)
    {axis}_keep = Less({axis}_wanted, zero)
"""

_ADAPTIVE_AVG_POOL = (
    """
    zero = Constant<value_int = 0>()
    one = Constant<value_int = 1>()
    last = Constant<value_ints = [-1]>()
    two = Constant<value_ints = [-2]>()
    end = Constant<value_ints = [9223372036854775807]>()
    wanted = Constant<value_ints : ints = @output_size>()
    whole = Shape(x)
    shape = Slice(whole, two, end)
"""
    + "".join((_SIDE + _BINS).format(axis=axis, at=at) for axis, at in (("row", 0), ("col", 1)))
    + """
    col_t = Transpose<perm = [1, 0]>(col_bins)
    across = MatMul(x, col_t)
    y = MatMul(row_bins, across)
"""
)

# Along an axis, pixel i reads for pixel h the mask's cell i - h + (mask - 1) // 2, if the mask has that cell.
_PSA_AXIS = """
    {axis}_at = Constant<value_int = {at}>()
    {axis}_side_at = Constant<value_int = {side_at}>()
    {axis}_cells = Gather(mask, {axis}_at)
    {axis}_side = Gather(whole, {axis}_side_at)
    {axis}_less = Sub({axis}_cells, one)
    {axis}_half = Div({axis}_less, two)
    {axis}_of = Range(zero, {axis}_side, one)
    {axis}_column = Unsqueeze({axis}_of, last)
    {axis}_apart = Sub({axis}_column, {axis}_of)
    {axis}_flat = Add({axis}_apart, {axis}_half)
    {axis}_wide = Constant<value_ints = {axes}>()
    {axis}_cell = Unsqueeze({axis}_flat, {axis}_wide)
    {axis}_before = Less({axis}_cell, zero)
    {axis}_from = Not({axis}_before)
    {axis}_till = Less({axis}_cell, {axis}_cells)
    {axis}_in = And({axis}_from, {axis}_till)
"""

_PSA_MASK = (
    """
    zero = Constant<value_int = 0>()
    one = Constant<value_int = 1>()
    two = Constant<value_int = 2>()
    last = Constant<value_ints = [-1]>()
    kind = Constant<value_int : int = @psa_type>()
    mask = Constant<value_ints : ints = @mask_size>()
    whole = Shape(x)
"""
    + _PSA_AXIS.format(axis="row", at=0, side_at=2, axes="[1, 3]")
    + _PSA_AXIS.format(axis="col", at=1, side_at=3, axes="[0, 2]")
    + """
    row_first = Mul(row_cell, col_cells)
    cell = Add(row_first, col_cell)
    inside = And(row_in, col_in)
    nothing = Mul(row_cells, col_cells)
    channel = Where(inside, cell, nothing)
    at_batch = Constant<value_ints = [0]>()
    at_sides = Constant<value_ints = [2, 3]>()
    unit = Constant<value_ints = [1]>()
    batch = Gather(whole, at_batch)
    sides = Gather(whole, at_sides)
    pixels = ReduceProd<keepdims = 1>(sides)
    one_shape = Concat<axis = 0>(unit, pixels, sides)
    channel_one = Reshape(channel, one_shape)
    full_shape = Concat<axis = 0>(batch, pixels, sides)
    channels = Expand(channel_one, full_shape)
    plane = Concat<axis = 0>(batch, unit, sides)
    zeros = ConstantOfShape(plane)
    zeros_like = CastLike(zeros, x)
    padded = Concat<axis = 1>(x, zeros_like)
    collected = GatherElements<axis = 1>(padded, channels)
    square = Concat<axis = 0>(batch, pixels, pixels)
    pairs = Reshape(collected, square)
    turned = Transpose<perm = [0, 2, 1]>(pairs)
    distributed = Reshape(turned, full_shape)
    distributes = Equal(kind, one)
    y = Where(distributes, distributed, collected)
"""
)

_OPS = (
    DialectOp(
        "AdaptiveAvgPool2d",
        "torch's adaptive_avg_pool2d; output_size holds two ints, -1 keeps that side",
        "<output_size> (x) => (y)",
        _ADAPTIVE_AVG_POOL,
        _adaptive_avg_pool_shape,
    ),
    DialectOp(
        RESIZE_ARGMAX,
        "argmax over channels of bilinearly resized logits; size = [height, width], lowest index wins a tie",
        "<coordinate_transformation_mode> (x, size) => (y)",
        """
    at = Constant<value_ints = [0]>()
    to = Constant<value_ints = [2]>()
    whole = Shape(x)
    kept = Slice(whole, at, to)
    sizes = Concat<axis = 0>(kept, size)
    large = Resize<mode = "linear", coordinate_transformation_mode : string = @coordinate_transformation_mode>
        (x, , , sizes)
    y = ArgMax<axis = 1, keepdims = 1>(large)
""",
        _resize_argmax_shape,
    ),
    DialectOp(
        "PSAMask",
        "PSANet's mask (N, mh*mw, H, W) of relative places as attention (N, H*W, H, W); psa_type 1 distributes",
        "<psa_type, mask_size> (x) => (y)",
        _PSA_MASK,
        _psa_mask_shape,
    ),
)

OPS = {op.name: op for op in _OPS}


@cache
def function(name: str, opset: int) -> onnx.FunctionProto:
    """The reference body of op `name` for a model of this opset. Raises KeyError if there is no such op."""
    op = OPS[name]
    header = f'<domain: "{DOMAIN}", opset_import: ["" : {max(opset, 15)}]>\n{name} {op.signature}'
    return onnx.parser.parse_function(f"{header}\n{{{op.body}}}")


def infer(node: gs.Node) -> Sequence[TypeAndShape]:
    """Type and shape of each output of a dialect node. The shape of its first input must be known."""
    return OPS[node.op].infer(node)
