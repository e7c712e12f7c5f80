"""Fold BatchNormalization and per-channel arithmetic into the weights of a neighbouring Conv, ConvTranspose or Gemm.

    BatchNormalization(Conv(x, W, b))  ->  Conv(x, s W, s b + t);  s = scale / sqrt(var + eps), t = B - mean s
    Conv(x, W, b) * c, / c, + c, - c   ->  the same with s = c or 1 / c, t = 0, or s = 1, t = c or -c
    Conv(BatchNormalization(x), W, b)  ->  Conv(x, W s, b + sum W t), without padding

The first two rules also hold for ConvTranspose and Gemm, where s and t follow the output channels. s, t and the
products are computed in float64 and rounded once; the sums then round in another order than before.

Must not fire: BatchNormalization in training mode; weights that another node reads (they would be stored twice);
constants that do not hold one number per channel; an intermediate result that is an output or whose values are used
elsewhere (its shape may be used: it does not change); a padded Conv after the BatchNormalization, whose border is 0 and
not t; scales that are not finite; a bias larger than the constants that it replaces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph.invariants import PORTABLE, REVEALED
from segc.passes.base import Pass, PassResult
from segc.passes.support.edit import Names, forward, optional, protected, rank
from segc.passes.support.op_sets import LINEAR

ELEMENTWISE = frozenset({"Mul", "Div", "Add", "Sub"})


@dataclass(frozen=True)
class Affine:
    """y = scale * x + shift for each channel, in float64."""

    scale: np.ndarray
    shift: np.ndarray


class FuseConvBatchnorm(Pass):
    """Fold BatchNormalization and per-channel arithmetic into Conv, ConvTranspose, Gemm. Cost: the folded weights."""

    name = "fuse-conv-batchnorm"
    algebra = "s * Conv(x, W, b) + t  ->  Conv(x, s W, s b + t), s and t per channel"
    requires = Pass.requires | {PORTABLE, "constants folded", "identities removed"}
    ensures = frozenset({"batchnorms fused"})
    invalidates = REVEALED | {"convolutions hoisted"}

    def run(self, graph: gs.Graph) -> PassResult:
        """Walk the sorted graph: the node after a fused node is fused next."""
        result, names, protected_ids = PassResult(), Names(graph), protected(graph)
        for node in list(graph.nodes):
            fused = _fuse_into_producer(graph, node, names, protected_ids, result) or _fuse_into_user(
                graph, node, names, protected_ids, result
            )
            if fused:
                graph.nodes = [n for n in graph.nodes if n is not node]
                result.changes += 1
        return result


def _fuse_into_producer(
    graph: gs.Graph, node: gs.Node, names: Names, protected_ids: set[int], result: PassResult
) -> bool:
    """Fuse `node` into the Conv, ConvTranspose or Gemm before it. Returns whether it was fused."""
    data_index = _data_index(node)
    if data_index is None or not node.inputs[data_index].inputs:
        return False
    intermediate, linear = node.inputs[data_index], node.inputs[data_index].inputs[0]
    if linear.op not in LINEAR or linear.domain is not None:
        return False
    channels = _output_channels(linear)
    affine_or_reason = "its weights are not constant" if channels is None else affine_of(node, data_index, channels)
    if isinstance(affine_or_reason, Affine):
        affine_or_reason = _why_not(linear, node, intermediate, protected_ids) or affine_or_reason
    if not isinstance(affine_or_reason, Affine):
        if affine_or_reason:
            result.skip(node, affine_or_reason)
        return False
    y = node.outputs[0]
    if why := forward(graph, y, intermediate, protected_ids):
        result.skip(node, why)
        return False
    _scale_outputs(linear, affine_or_reason, names)
    node.inputs.clear()
    node.outputs.clear()
    return True


def _data_index(node: gs.Node) -> int | None:
    """The index of the only input that is not constant of a BatchNormalization, Mul, Div, Add or Sub, else None."""
    if node.domain or not node.outputs:
        return None
    if node.op == "BatchNormalization":
        return 0
    if node.op not in ELEMENTWISE or len(node.inputs) != 2:
        return None
    variables = [index for index, t in enumerate(node.inputs) if not isinstance(t, gs.Constant)]
    return variables[0] if len(variables) == 1 and (node.op != "Div" or variables == [0]) else None


def _output_channels(linear: gs.Node) -> int | None:
    """The number of output channels, None unless weight and bias are constants that can be scaled per channel."""
    weight, bias = linear.inputs[1], optional(linear, 2)
    if not isinstance(weight, gs.Constant) or not (bias is None or isinstance(bias, gs.Constant)):
        return None
    shape = weight.shape
    if linear.op == "Conv":
        return int(shape[0])
    if linear.op == "ConvTranspose":
        return int(shape[1]) * int(linear.attrs.get("group", 1))
    channels = int(shape[0 if linear.attrs.get("transB", 0) else 1])
    broadcasts = bias is not None and int(np.prod(bias.shape)) not in (1, channels)
    return None if broadcasts or (bias is not None and len(bias.shape) > 1 and bias.shape[0] != 1) else channels


def affine_of(node: gs.Node, data_index: int, channels: int) -> Affine | str | None:
    """The affine map that `node` applies to each channel of its input `data_index`.

    Returns a reason if `node` is a candidate but has no such map, None if it is not a candidate.
    """
    if node.op == "BatchNormalization":
        return _batchnorm_affine(node)
    constant, dims = node.inputs[1 - data_index], rank(node.inputs[data_index])
    if dims is None or dims < 2:
        return f"the rank of '{node.inputs[data_index].name}' is unknown"
    if node.inputs[data_index].dtype is None or np.dtype(node.inputs[data_index].dtype).kind != "f":
        return None
    shape = [1] * (dims - len(constant.shape)) + list(constant.shape)
    if len(shape) != dims or any(size != 1 for axis, size in enumerate(shape) if axis != 1):
        return None
    if shape[1] not in (1, channels):
        return None
    value = np.broadcast_to(constant.values.astype(np.float64).reshape(-1), (channels,))
    one, zero = np.ones(channels), np.zeros(channels)
    if node.op == "Sub" and data_index == 1:
        return _require_finite(Affine(-one, value))
    with np.errstate(divide="ignore"):
        scale_shift_by_op = {"Mul": (value, zero), "Div": (1 / value, zero), "Add": (one, value), "Sub": (one, -value)}
    return _require_finite(Affine(*scale_shift_by_op[node.op]))


def _batchnorm_affine(node: gs.Node) -> Affine | str:
    if node.attrs.get("training_mode", 0) or len(node.outputs) != 1:
        return "BatchNormalization is in training mode"
    if not all(isinstance(t, gs.Constant) for t in node.inputs[1:5]):
        return "the statistics are not constant"
    scale, shift, mean, var = (t.values.astype(np.float64) for t in node.inputs[1:5])
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = scale / np.sqrt(var + node.attrs.get("epsilon", 1e-5))
        return _require_finite(Affine(factor, shift - mean * factor))


def _require_finite(affine_map: Affine) -> Affine | str:
    good = np.isfinite(affine_map.scale).all() and np.isfinite(affine_map.shift).all()
    return affine_map if good else "a scale or shift is not finite"


def _why_not(linear: gs.Node, node: gs.Node, intermediate: gs.Tensor, protected_ids: set[int]) -> str | None:
    """Why the weights of `linear` cannot absorb `node`, None if they can."""
    readers = [user for user in intermediate.outputs if user.op != "Shape"]  # the shape does not change
    if id(intermediate) in protected_ids or len(readers) != 1:
        return f"'{intermediate.name}' is also used elsewhere"
    for tensor in linear.inputs[1:]:
        if len(tensor.outputs) != 1 and not tensor.is_empty():
            return f"weight '{tensor.name}' is shared"
    weight = linear.inputs[1]
    if optional(linear, 2) is None:
        added = (_output_channels(linear) or 0) * np.dtype(weight.dtype).itemsize
        exclusive = {id(t): t for t in node.inputs if isinstance(t, gs.Constant) and all(u is node for u in t.outputs)}
        freed = sum(t.values.nbytes for t in exclusive.values())
        if added > freed and node.op not in ("Mul", "Div"):
            return f"a bias takes {added} bytes, more than the {freed} bytes it replaces"
    return None


def _scale_outputs(linear: gs.Node, affine_map: Affine, names: Names) -> None:
    """Scale and shift the outputs of a linear node: s W and s b + t."""
    weight, bias, y = linear.inputs[1], optional(linear, 2), linear.outputs[0]
    values = weight.values.astype(np.float64)
    beta = float(linear.attrs.get("beta", 1.0)) if linear.op == "Gemm" else 1.0
    old_bias = 0.0 if bias is None else bias.values.astype(np.float64).reshape(-1) * beta
    shift = np.broadcast_to(old_bias * affine_map.scale + affine_map.shift, affine_map.scale.shape)
    if not np.all(affine_map.scale == 1):
        values = _scaled_weight(linear, values, affine_map.scale)
        linear.inputs[1] = names.constant(y, "weight", values.astype(weight.dtype))
    if bias is None and not shift.any():
        return
    if linear.op == "Gemm":
        linear.attrs["beta"] = 1.0
    new_bias = names.constant(y, "bias", shift.astype(weight.dtype))
    linear.inputs = [*linear.inputs[:2], new_bias]


def _scaled_weight(linear: gs.Node, values: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """`values`, the weight of `linear`, with each output channel scaled."""
    spatial = (1,) * (values.ndim - 2)
    scaled: np.ndarray
    if linear.op == "Conv":
        scaled = values * scale.reshape(-1, 1, *spatial)
    elif linear.op == "Gemm":
        scaled = values * (scale[:, None] if linear.attrs.get("transB", 0) else scale)
    else:
        groups = int(linear.attrs.get("group", 1))
        grouped = values.reshape(groups, values.shape[0] // groups, *values.shape[1:])
        scaled = grouped * scale.reshape(groups, 1, -1, *spatial)
    return scaled.reshape(values.shape)


def _fuse_into_user(graph: gs.Graph, node: gs.Node, names: Names, protected_ids: set[int], result: PassResult) -> bool:
    """Fuse the BatchNormalization `node` into the Conv that is its only reader. Returns whether it was fused."""
    if node.op != "BatchNormalization" or node.domain or not node.outputs:
        return False
    y = node.outputs[0]
    user = y.outputs[0] if len(y.outputs) == 1 and id(y) not in protected_ids else None
    if user is None or user.op != "Conv" or user.domain is not None or user.inputs[0] is not y:
        return False
    affine_or_reason: Affine | str = (
        "its weights are not constant" if _output_channels(user) is None else _batchnorm_affine(node)
    )
    if isinstance(affine_or_reason, Affine) and (why := _why_padded(user) or _why_not(user, node, y, protected_ids)):
        affine_or_reason = why
    if isinstance(affine_or_reason, str):
        result.skip(node, f"{affine_or_reason} (the Conv after it)")
        return False
    _scale_inputs(user, affine_or_reason, names)
    user.inputs = [node.inputs[0] if t is y else t for t in user.inputs]
    node.inputs.clear()
    node.outputs.clear()
    return True


def _why_padded(conv: gs.Node) -> str | None:
    auto_pad: Any = conv.attrs.get("auto_pad", "NOTSET")
    auto_pad = auto_pad.decode() if isinstance(auto_pad, bytes) else auto_pad
    if auto_pad not in ("NOTSET", "VALID") or any(conv.attrs.get("pads", [0])):
        return "the Conv pads with 0 after the shift"
    return None


def _scale_inputs(conv: gs.Node, affine_map: Affine, names: Names) -> None:
    """Scale and shift the inputs of a Conv: W s and b + sum W t."""
    weight, bias, y = conv.inputs[1], optional(conv, 2), conv.outputs[0]
    values, groups = weight.values.astype(np.float64), int(conv.attrs.get("group", 1))
    grouped = values.reshape(groups, values.shape[0] // groups, *values.shape[1:])
    broadcast = (groups, 1, -1, *(1,) * (values.ndim - 2))
    scaled, shifted = grouped * affine_map.scale.reshape(broadcast), grouped * affine_map.shift.reshape(broadcast)
    old_bias = 0.0 if bias is None else bias.values.astype(np.float64)
    shift = shifted.reshape(values.shape[0], -1).sum(axis=1) + old_bias
    constants = [
        names.constant(y, "weight", scaled.reshape(values.shape).astype(weight.dtype)),
        names.constant(y, "bias", shift.astype(weight.dtype)),
    ]
    conv.inputs = [conv.inputs[0], *constants]
