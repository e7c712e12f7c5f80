"""Rows for matrix products, sums along axes and norms."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from segc.passes.support.edit import optional
from segc.targets.ncnn.lower.attributes import axes as axes_of
from segc.targets.ncnn.lower.attributes import axis as axis_of
from segc.targets.ncnn.lower.attributes import map_of, real, whole
from segc.targets.ncnn.lower.layout import dims
from segc.targets.ncnn.lower.lowering import Emission, numbers, row
from segc.targets.ncnn.lower.ops_math import with_scalar
from segc.targets.ncnn.lower.ops_movement import with_axis
from segc.targets.ncnn.net.net import Blob, Refused, Shape, Weight, require, total
from segc.targets.ncnn.net.params import REDUCTION

SMALLEST = 1.17549435e-38  # the smallest normal float32


@row("MatMul")
def matmul(e: Emission, node: gs.Node) -> None:
    """A product where the right side is one constant matrix, otherwise MatMul."""
    a, b = node.inputs
    y = node.outputs[0]
    left, right = dims(a.shape), dims(b.shape)
    if isinstance(b, gs.Constant) and len(right) == 2 and len(left) >= 2:
        return e.put(y, product(e, "product", a, Weight(numbers(b).T, tagged=True), None))
    left = left if len(left) > 1 else (1, *left)
    right = right if len(right) > 1 else (*right, 1)
    rank = max(len(left), len(right))
    left, right = (1,) * (rank - len(left)) + left, (1,) * (rank - len(right)) + right
    left, right = _batches(left, right)
    return e.put(y, e.layer("MatMul", "product", [e.shaped(a, left), e.shaped(b, right)]))


def _batches(left: Shape, right: Shape) -> tuple[Shape, Shape]:
    """Both shapes with at most two axes for the batch: axes of size 1 on both sides go, equal neighbours merge."""
    pairs = [pair for pair in zip(left[:-2], right[:-2], strict=True) if pair != (1, 1)]
    while len(pairs) > 2:
        at = next((i for i in range(len(pairs) - 1) if all(p == q for p, q in pairs[i : i + 2])), None)
        if at is None:
            raise Refused(f"a product of {len(left)} axes that broadcast, ncnn has 4")
        both = total((pairs[at][0], pairs[at + 1][0]))
        pairs[at : at + 2] = [(both, both)]
    return (*(p for p, _ in pairs), *left[-2:]), (*(q for _, q in pairs), *right[-2:])


def product(e: Emission, role: str, a: gs.Tensor, weight: Weight, bias: np.ndarray | None) -> Blob:
    """Rows of `a` (..., k) times the transpose of weight (n, k), plus bias (n,): InnerProduct of one row, or Gemm."""
    sizes = dims(a.shape)
    if total(sizes[:-1]) != 1:
        rows = e.shaped(a, (total(sizes[:-1]), sizes[-1]))
        return gemm(e, role, rows, weight, None if bias is None else Weight(bias, tagged=True))
    return e.layer(
        "InnerProduct", role, [e.shaped(a, (sizes[-1],))], weights=[weight, *([] if bias is None else [Weight(bias)])],
        num_output=weight.values.shape[0], bias_term=int(bias is not None), weight_data_size=weight.values.size,
    )  # fmt: skip


def gemm(e: Emission, role: str, rows: Blob, weight: Weight, bias: Weight | None) -> Blob:
    """rows (m, k) times the transpose of weight (n, k), plus bias (n,)."""
    columns, inner = weight.values.shape
    return e.layer(
        "Gemm", role, [rows], weights=[weight, *([] if bias is None else [bias])],
        trans_b=1, constant_a=0, constant_b=1, constant_c=1, constant_m=0, constant_n=columns, constant_k=inner,
        constant_broadcast_type_c=-1 if bias is None else 4,
    )  # fmt: skip


@row("Gemm")
def gemm_row(e: Emission, node: gs.Node) -> None:
    """A product with constant B and C; the factors alpha and beta are folded into them."""
    a, b = node.inputs[:2]
    c = optional(node, 2)
    y = node.outputs[0]
    alpha, beta = real(node, "alpha", 1.0), real(node, "beta", 1.0)
    require(whole(node, "transA", 0) == 0, "transA is 1")
    if not isinstance(b, gs.Constant) or not (c is None or isinstance(c, gs.Constant)):
        raise Refused("its weights are computed at run time")
    values = numbers(b) if whole(node, "transB", 0) else numbers(b).T
    values = values if alpha == 1 else values * values.dtype.type(alpha)
    bias = None
    if c is not None:
        flat = numbers(c) if beta == 1 else numbers(c) * numbers(c).dtype.type(beta)
        require(flat.size == values.shape[0] and flat.shape[-1] == flat.size, f"C is {list(c.shape)}")
        bias = flat.reshape(-1)
    e.put(y, product(e, "product", a, Weight(values, tagged=True), bias))


REDUCED = {
    "ReduceSum": "sum", "ReduceMean": "mean", "ReduceMax": "max", "ReduceMin": "min", "ReduceProd": "prod",
    "ReduceL1": "l1", "ReduceL2": "l2", "ReduceSumSquare": "sumsq", "ReduceLogSumExp": "logsumexp",
}  # fmt: skip


@row(*REDUCED)
def reduce(e: Emission, node: gs.Node) -> None:
    """Reduction. Without a list of axes all are meant, unless noop_with_empty_axes says none."""
    x, y = node.inputs[0], node.outputs[0]
    sizes = dims(x.shape)
    axes = axes_of(node, 1, len(sizes))
    if not axes and whole(node, "noop_with_empty_axes", 0):
        return e.put(y, e.blob(x))
    axes = axes or list(range(len(sizes)))
    layout = e.layout(x)
    if layout.axes is not None and all(axis in layout.axes or sizes[axis] == 1 for axis in axes):
        blob, places = e.blob(x), [layout.axes.index(axis) for axis in axes if axis in layout.axes]
    else:
        require(axes == list(range(axes[0], axes[-1] + 1)), f"it sums over axes {axes} of {len(sizes)}")
        shape = (total(sizes[: axes[0]]), total(sizes[axes[0] : axes[-1] + 1]), total(sizes[axes[-1] + 1 :]))
        blob, places = e.shaped(x, shape), [1]
    if not places:
        places = [0] if blob.shape[0] == 1 else []
    require(bool(places), "it sums over axes of size 1")
    return e.put(y, reduction(e, "reduced", blob, REDUCED[node.op], places))


def reduction(e: Emission, role: str, blob: Blob, kind: str, axes: list[int]) -> Blob:
    """Reduction over these axes, which stay with size 1."""
    return e.layer(
        "Reduction", role, [blob],
        operation=REDUCTION[kind], reduce_all=0, coeff=1.0, axes=axes, keepdims=1, fixbug0=1,
    )  # fmt: skip


@row("Softmax", "LogSoftmax")
def softmax(e: Emission, node: gs.Node) -> None:
    """Softmax; its logarithm is x minus the logarithm of the sum of exponentials."""
    x, y = node.inputs[0], node.outputs[0]
    blob, at = with_axis(e, x, axis_of(node, len(x.shape), -1))
    if node.op == "Softmax":
        return e.put(y, e.layer("Softmax", "softmax", [blob], axis=at, fixbug0=1))
    sums = reduction(e, "sums", blob, "logsumexp", [at])
    return e.put(y, e.layer("BinaryOp", "log", [blob, sums], op_type=1))


@row("LayerNormalization")
def layer_normalization(e: Emission, node: gs.Node) -> None:
    """LayerNorm over rows."""
    x = node.inputs[0]
    require(all(t.is_empty() for t in node.outputs[1:]), "its mean or deviation is used")
    sizes = dims(x.shape)
    axis = axis_of(node, len(sizes), -1)
    size = total(sizes[axis:])
    if size is None:
        raise Refused("it normalizes a side that is known at run time only")
    scale, bias = node.inputs[1], optional(node, 2)
    if not isinstance(scale, gs.Constant) or not (bias is None or isinstance(bias, gs.Constant)):
        raise Refused("its parameters are computed at run time")
    require(scale.values.size == size, f"its scale has {scale.values.size} elements, the rows {size}")
    gamma = numbers(scale).reshape(-1)
    beta = numbers(bias).reshape(-1) if bias is not None else gamma * 0
    rows = e.shaped(x, (total(sizes[:axis]), size))
    params: dict[str, Any] = {"affine_size": size, "eps": real(node, "epsilon", 1e-5), "affine": 1}
    e.put(node.outputs[0], e.layer("LayerNorm", "norm", [rows], weights=[Weight(gamma), Weight(beta)], **params))


@row("InstanceNormalization", "GroupNormalization")
def group_normalization(e: Emission, node: gs.Node) -> None:
    """InstanceNorm and GroupNorm on maps."""
    x, scale, bias = node.inputs
    if not isinstance(scale, gs.Constant) or not isinstance(bias, gs.Constant):
        raise Refused("its parameters are computed at run time")
    blob = e.blob(x)
    map_of(blob.shape, f"'{x.name}'")
    weights = [Weight(numbers(scale)), Weight(numbers(bias))]
    channels = blob.shape[0]
    require(scale.values.size == channels, f"its scale has {scale.values.size} elements for {channels} channels")
    params: dict[str, Any] = {"channels": channels, "eps": real(node, "epsilon", 1e-5), "affine": 1}
    if node.op == "GroupNormalization":
        params["group"] = whole(node, "num_groups", 1)
    type_ = "GroupNorm" if "group" in params else "InstanceNorm"
    e.put(node.outputs[0], e.layer(type_, "norm", [blob], weights=weights, **params))


@row("LpNormalization")
def lp_normalization(e: Emission, node: gs.Node) -> None:
    """x divided by its length along an axis; where that is 0 the result is 0."""
    x = node.inputs[0]
    blob, at = with_axis(e, x, axis_of(node, len(x.shape), -1))
    length = reduction(e, "length", blob, {1: "l1", 2: "l2"}[whole(node, "p", 2)], [at])
    length = with_scalar(e, "positive", "max", length, SMALLEST)
    e.put(node.outputs[0], e.layer("BinaryOp", "unit", [blob, length], op_type=3))
