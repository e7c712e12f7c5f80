"""Lower matrix products, reductions, softmax and normalizations."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from segc.passes.support.edit import optional
from segc.targets.ncnn.lower.attributes import (
    axes_of,
    axis_of,
    float_attr,
    int_attr,
    require_map,
)
from segc.targets.ncnn.lower.layout import dims, layout_of
from segc.targets.ncnn.lower.net_builder import NetBuilder, float32_values
from segc.targets.ncnn.lower.ops_math import with_scalar
from segc.targets.ncnn.lower.ops_movement import with_axis
from segc.targets.ncnn.lower.registry import lower_op
from segc.targets.ncnn.net.net import (
    Blob,
    Refused,
    Shape,
    Weight,
    element_count,
    require,
)
from segc.targets.ncnn.net.params import BINARY, REDUCTION

MIN_NORMAL = 1.17549435e-38  # the smallest normal float32


@lower_op("MatMul")
def matmul(builder: NetBuilder, node: gs.Node) -> None:
    """`matrix_product` where the right side is one constant matrix, otherwise MatMul."""
    a, b = node.inputs
    y = node.outputs[0]
    left, right = dims(a.shape), dims(b.shape)
    if isinstance(b, gs.Constant) and len(right) == 2 and len(left) >= 2:
        return builder.bind(y, matrix_product(builder, "product", a, Weight(float32_values(b).T, tagged=True), None))
    left = left if len(left) > 1 else (1, *left)
    right = right if len(right) > 1 else (*right, 1)
    rank = max(len(left), len(right))
    left, right = (1,) * (rank - len(left)) + left, (1,) * (rank - len(right)) + right
    left, right = _merge_batch_axes(left, right)
    return builder.bind(
        y, builder.add_layer("MatMul", "product", [builder.as_shape(a, left), builder.as_shape(b, right)])
    )


def _merge_batch_axes(left: Shape, right: Shape) -> tuple[Shape, Shape]:
    """Both shapes with at most two batch axes. Raises Refused where broadcasting needs more.

    Axes of size 1 on both sides are dropped; neighbours that are equal on both sides merge.
    """
    pairs = [pair for pair in zip(left[:-2], right[:-2], strict=True) if pair != (1, 1)]
    while len(pairs) > 2:
        first = next((i for i in range(len(pairs) - 1) if all(p == q for p, q in pairs[i : i + 2])), None)
        if first is None:
            raise Refused(f"a product of {len(left)} axes that broadcast, ncnn has 4")
        merged = element_count((pairs[first][0], pairs[first + 1][0]))
        pairs[first : first + 2] = [(merged, merged)]
    return (*(p for p, _ in pairs), *left[-2:]), (*(q for _, q in pairs), *right[-2:])


def matrix_product(builder: NetBuilder, role: str, a: gs.Tensor, weight: Weight, bias: np.ndarray | None) -> Blob:
    """a (..., k) times the transpose of weight (n, k), plus bias (n,): InnerProduct of one row, Gemm of several."""
    sizes = dims(a.shape)
    if element_count(sizes[:-1]) != 1:
        rows = builder.as_shape(a, (element_count(sizes[:-1]), sizes[-1]))
        return gemm(builder, role, rows, weight, None if bias is None else Weight(bias, tagged=True))
    weights = [weight, *([] if bias is None else [Weight(bias)])]
    return builder.add_layer(
        "InnerProduct", role, [builder.as_shape(a, (sizes[-1],))], weights=weights,
        num_output=weight.values.shape[0], bias_term=int(bias is not None), weight_data_size=weight.values.size,
    )  # fmt: skip


def gemm(builder: NetBuilder, role: str, rows: Blob, weight: Weight, bias: Weight | None) -> Blob:
    """Gemm: rows (m, k) times the transpose of weight (n, k), plus bias (n,)."""
    columns, inner = weight.values.shape
    return builder.add_layer(
        "Gemm", role, [rows], weights=[weight, *([] if bias is None else [bias])],
        trans_b=1, constant_a=0, constant_b=1, constant_c=1, constant_m=0, constant_n=columns, constant_k=inner,
        constant_broadcast_type_c=-1 if bias is None else 4,
    )  # fmt: skip


@lower_op("Gemm")
def lower_gemm(builder: NetBuilder, node: gs.Node) -> None:
    """`matrix_product` with constant B and C, into which alpha and beta are folded."""
    a, b = node.inputs[:2]
    c = optional(node, 2)
    y = node.outputs[0]
    alpha, beta = float_attr(node, "alpha", 1.0), float_attr(node, "beta", 1.0)
    require(int_attr(node, "transA", 0) == 0, "transA is 1")
    if not isinstance(b, gs.Constant) or not (c is None or isinstance(c, gs.Constant)):
        raise Refused("its weights are computed at run time")
    values = float32_values(b) if int_attr(node, "transB", 0) else float32_values(b).T
    values = values if alpha == 1 else values * values.dtype.type(alpha)
    bias = None
    if c is not None:
        flat = float32_values(c) if beta == 1 else float32_values(c) * float32_values(c).dtype.type(beta)
        require(flat.size == values.shape[0] and flat.shape[-1] == flat.size, f"C is {list(c.shape)}")
        bias = flat.reshape(-1)
    builder.bind(y, matrix_product(builder, "product", a, Weight(values, tagged=True), bias))


REDUCTION_OPS = {
    "ReduceSum": "sum", "ReduceMean": "mean", "ReduceMax": "max", "ReduceMin": "min", "ReduceProd": "prod",
    "ReduceL1": "l1", "ReduceL2": "l2", "ReduceSumSquare": "sumsq", "ReduceLogSumExp": "logsumexp",
}  # fmt: skip


@lower_op(*REDUCTION_OPS)
def reduce(builder: NetBuilder, node: gs.Node) -> None:
    """Reduction. Without axes it is over all of them, unless noop_with_empty_axes says over none."""
    x, y = node.inputs[0], node.outputs[0]
    sizes = dims(x.shape)
    axes = axes_of(node, 1, len(sizes))
    if not axes and int_attr(node, "noop_with_empty_axes", 0):
        return builder.bind(y, builder.blob(x))
    axes = axes or list(range(len(sizes)))
    layout = layout_of(x)
    if layout.axes is not None and all(axis in layout.axes or sizes[axis] == 1 for axis in axes):
        blob, blob_axes = builder.blob(x), [layout.axes.index(axis) for axis in axes if axis in layout.axes]
    else:
        require(axes == list(range(axes[0], axes[-1] + 1)), f"it reduces axes {axes} of {len(sizes)}")
        shape = (
            element_count(sizes[: axes[0]]),
            element_count(sizes[axes[0] : axes[-1] + 1]),
            element_count(sizes[axes[-1] + 1 :]),
        )
        blob, blob_axes = builder.as_shape(x, shape), [1]
    if not blob_axes:
        blob_axes = [0] if blob.shape[0] == 1 else []
    require(bool(blob_axes), "it reduces axes of size 1 only")
    return builder.bind(y, reduction(builder, "reduced", blob, REDUCTION_OPS[node.op], blob_axes))


def reduction(builder: NetBuilder, role: str, blob: Blob, kind: str, axes: list[int]) -> Blob:
    """Reduction of these blob axes, which keep size 1; kind: a key of `params.REDUCTION`."""
    return builder.add_layer(
        "Reduction", role, [blob],
        operation=REDUCTION[kind], reduce_all=0, coeff=1.0, axes=axes, keepdims=1, fixbug0=1,
    )  # fmt: skip


@lower_op("Softmax", "LogSoftmax")
def softmax(builder: NetBuilder, node: gs.Node) -> None:
    """Softmax; LogSoftmax is x minus the logarithm of the sum of exponentials."""
    x, y = node.inputs[0], node.outputs[0]
    blob, axis = with_axis(builder, x, axis_of(node, len(x.shape), -1))
    if node.op == "Softmax":
        return builder.bind(y, builder.add_layer("Softmax", "softmax", [blob], axis=axis, fixbug0=1))
    log_sum = reduction(builder, "sums", blob, "logsumexp", [axis])
    return builder.bind(y, builder.add_layer("BinaryOp", "log", [blob, log_sum], op_type=BINARY["sub"]))


@lower_op("LayerNormalization")
def layer_normalization(builder: NetBuilder, node: gs.Node) -> None:
    """LayerNorm of rows: the normalized axes as one."""
    x = node.inputs[0]
    require(all(t.is_empty() for t in node.outputs[1:]), "its mean or standard deviation is used")
    sizes = dims(x.shape)
    axis = axis_of(node, len(sizes), -1)
    size = element_count(sizes[axis:])
    if size is None:
        raise Refused("it normalizes a side that is known at run time only")
    scale, bias = node.inputs[1], optional(node, 2)
    if not isinstance(scale, gs.Constant) or not (bias is None or isinstance(bias, gs.Constant)):
        raise Refused("its parameters are computed at run time")
    require(scale.values.size == size, f"its scale has {scale.values.size} elements, the rows {size}")
    gamma = float32_values(scale).reshape(-1)
    beta = float32_values(bias).reshape(-1) if bias is not None else gamma * 0
    rows = builder.as_shape(x, (element_count(sizes[:axis]), size))
    params: dict[str, Any] = {"affine_size": size, "eps": float_attr(node, "epsilon", 1e-5), "affine": 1}
    builder.bind(
        node.outputs[0], builder.add_layer("LayerNorm", "norm", [rows], weights=[Weight(gamma), Weight(beta)], **params)
    )


@lower_op("InstanceNormalization", "GroupNormalization")
def group_normalization(builder: NetBuilder, node: gs.Node) -> None:
    """InstanceNorm or GroupNorm of a map."""
    x, scale, bias = node.inputs
    if not isinstance(scale, gs.Constant) or not isinstance(bias, gs.Constant):
        raise Refused("its parameters are computed at run time")
    blob = builder.blob(x)
    require_map(blob.shape, f"'{x.name}'")
    weights = [Weight(float32_values(scale)), Weight(float32_values(bias))]
    channels = blob.shape[0]
    require(scale.values.size == channels, f"its scale has {scale.values.size} elements for {channels} channels")
    params: dict[str, Any] = {"channels": channels, "eps": float_attr(node, "epsilon", 1e-5), "affine": 1}
    if node.op == "GroupNormalization":
        params["group"] = int_attr(node, "num_groups", 1)
    type_ = "GroupNorm" if "group" in params else "InstanceNorm"
    builder.bind(node.outputs[0], builder.add_layer(type_, "norm", [blob], weights=weights, **params))


@lower_op("LpNormalization")
def lp_normalization(builder: NetBuilder, node: gs.Node) -> None:
    """x divided by its norm along an axis; 0 where the norm is 0."""
    x = node.inputs[0]
    blob, axis = with_axis(builder, x, axis_of(node, len(x.shape), -1))
    norm = reduction(builder, "length", blob, {1: "l1", 2: "l2"}[int_attr(node, "p", 2)], [axis])
    norm = with_scalar(builder, "positive", "max", norm, MIN_NORMAL)
    builder.bind(node.outputs[0], builder.add_layer("BinaryOp", "unit", [blob, norm], op_type=BINARY["div"]))
