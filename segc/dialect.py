"""The `segc` dialect, version 1: ops that ONNX cannot say and that targets implement differently.

Each op has a shape rule and reference semantics as an ONNX function body in standard ops (valid from opset 15 on), so
ONNX Runtime executes a graph that contains it.
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
VERSION = 1

Dim = int | str | None
TypeAndShape = tuple[Any, list[Dim]]


@dataclass(frozen=True)
class DialectOp:
    """One op: what it means in a line, its shape rule, and its body in ONNX text, without the function's header."""

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


# A bin i of n over a side of length s averages cells floor(i*s/n) <= cell < ceil((i+1)*s/n): bins overlap unless n
# divides s. An output_size of -1 keeps that side (torch's None): then n = s and every bin is its own cell.
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

_OPS = (
    DialectOp(
        "AdaptiveAvgPool2d",
        "torch's adaptive_avg_pool2d; output_size holds two ints, -1 keeps that side",
        "<output_size> (x) => (y)",
        _ADAPTIVE_AVG_POOL,
        _adaptive_avg_pool_shape,
    ),
    DialectOp(
        "ResizeArgMax",
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
)

OPS = {op.name: op for op in _OPS}


@cache
def function(name: str, opset: int) -> onnx.FunctionProto:
    """The reference body of op `name` for a model of this opset. Raises KeyError for an unknown op."""
    op = OPS[name]
    header = f'<domain: "{DOMAIN}", opset_import: ["" : {max(opset, 15)}]>\n{name} {op.signature}'
    return onnx.parser.parse_function(f"{header}\n{{{op.body}}}")


def infer(node: gs.Node) -> Sequence[TypeAndShape]:
    """Type and shape of each output of a dialect node; its first input's shape must be known."""
    return OPS[node.op].infer(node)
