"""Put scales and shifts of channels into the weights next to them.

    BatchNormalization(Conv(x, W, b))  ->  Conv(x, s W, s b + t);  s = scale / sqrt(var + eps), t = B - mean s
    Conv(x, W, b) * c, / c, + c, - c   ->  the same with s = c or 1 / c, t = 0, or s = 1, t = c or -c
    Conv(BatchNormalization(x), W, b)  ->  Conv(x, W s, b + sum W t), without padding

also for ConvTranspose and Gemm before, where s and t follow the output channels. s, t and the products are computed in
float64 and rounded once; the sums then round in another order than before.

Must not fire: BatchNormalization in training mode; weights that another node reads (they would be stored twice);
constants that are not one number a channel; a result in between that is an output, or whose numbers are used elsewhere
(its shape may be: it stays); a padded Conv behind the BatchNormalization, whose border is 0 and not t; scales that are
not finite; a bias larger than the constants that it replaces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from segc.passes.base import Pass, PassResult
from segc.passes.support.edit import Names, forward, optional, protected, rank

LINEAR = frozenset({"Conv", "ConvTranspose", "Gemm"})
ELEMENTWISE = frozenset({"Mul", "Div", "Add", "Sub"})


@dataclass(frozen=True)
class Affine:
    """y = scale * x + shift for each channel, in float64."""

    scale: np.ndarray
    shift: np.ndarray


class FuseConvBatchnorm(Pass):
    """Fold BatchNormalization and arithmetic by channel into Conv, ConvTranspose and Gemm. Cost: the folded weights."""

    name = "fuse-conv-batchnorm"
    algebra = "s * Conv(x, W, b) + t  ->  Conv(x, s W, s b + t), s and t by channel"

    def run(self, graph: gs.Graph) -> PassResult:
        """Walk the sorted graph: what follows a fused node is fused next."""
        result, names, keep = PassResult(), Names(graph), protected(graph)
        for node in list(graph.nodes):
            done = _behind(graph, node, names, keep, result) or _before(graph, node, names, keep, result)
            if done:
                graph.nodes = [n for n in graph.nodes if n is not node]
                result.changes += 1
        return result


def _behind(graph: gs.Graph, node: gs.Node, names: Names, keep: set[int], result: PassResult) -> bool:
    """Fuse `node` into the linear node before it."""
    at = _data(node)
    if at is None or not node.inputs[at].inputs:
        return False
    between, linear = node.inputs[at], node.inputs[at].inputs[0]
    if linear.op not in LINEAR or linear.domain is not None:
        return False
    channels = _channels(linear)
    found = "its weights are not constant" if channels is None else affine(node, at, channels)
    if isinstance(found, Affine):
        found = _blocked(linear, node, between, keep) or found
    if not isinstance(found, Affine):
        if found:
            result.skip(node, found)
        return False
    y = node.outputs[0]
    if why := forward(graph, y, between, keep):
        result.skip(node, why)
        return False
    _scale_outputs(linear, found, names)
    node.inputs.clear()
    node.outputs.clear()
    return True


def _data(node: gs.Node) -> int | None:
    """Which input of a BatchNormalization, Mul, Div, Add or Sub is not constant; None for other nodes."""
    if node.domain or not node.outputs:
        return None
    if node.op == "BatchNormalization":
        return 0
    if node.op not in ELEMENTWISE or len(node.inputs) != 2:
        return None
    variables = [at for at, t in enumerate(node.inputs) if not isinstance(t, gs.Constant)]
    return variables[0] if len(variables) == 1 and (node.op != "Div" or variables == [0]) else None


def _channels(linear: gs.Node) -> int | None:
    """Output channels, when weight and bias are constants in a form that can be scaled."""
    weight, bias = linear.inputs[1], optional(linear, 2)
    if not isinstance(weight, gs.Constant) or not (bias is None or isinstance(bias, gs.Constant)):
        return None
    shape = weight.shape
    if linear.op == "Conv":
        return int(shape[0])
    if linear.op == "ConvTranspose":
        return int(shape[1]) * int(linear.attrs.get("group", 1))
    channels = int(shape[0 if linear.attrs.get("transB", 0) else 1])
    wide = bias is not None and int(np.prod(bias.shape)) not in (1, channels)
    return None if wide or (bias is not None and len(bias.shape) > 1 and bias.shape[0] != 1) else channels


def affine(node: gs.Node, at: int, channels: int) -> Affine | str | None:
    """What `node` does to each channel of its input `at`, or why that cannot be said; None: not worth a word."""
    if node.op == "BatchNormalization":
        return _batchnorm(node)
    constant, dims = node.inputs[1 - at], rank(node.inputs[at])
    if dims is None or dims < 2:
        return "the rank is unknown"
    if node.inputs[at].dtype is None or np.dtype(node.inputs[at].dtype).kind != "f":
        return None
    shape = [1] * (dims - len(constant.shape)) + list(constant.shape)
    if len(shape) != dims or any(size != 1 for axis, size in enumerate(shape) if axis != 1):
        return None
    if shape[1] not in (1, channels):
        return None
    value = np.broadcast_to(constant.values.astype(np.float64).reshape(-1), (channels,))
    one, zero = np.ones(channels), np.zeros(channels)
    if node.op == "Sub" and at == 1:
        return _finite(Affine(-one, value))
    with np.errstate(divide="ignore"):
        table = {"Mul": (value, zero), "Div": (1 / value, zero), "Add": (one, value), "Sub": (one, -value)}
    return _finite(Affine(*table[node.op]))


def _batchnorm(node: gs.Node) -> Affine | str:
    if node.attrs.get("training_mode", 0) or len(node.outputs) != 1:
        return "BatchNormalization is in training mode"
    if not all(isinstance(t, gs.Constant) for t in node.inputs[1:5]):
        return "the statistics are not constant"
    scale, shift, mean, var = (t.values.astype(np.float64) for t in node.inputs[1:5])
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = scale / np.sqrt(var + node.attrs.get("epsilon", 1e-5))
        return _finite(Affine(factor, shift - mean * factor))


def _finite(found: Affine) -> Affine | str:
    good = np.isfinite(found.scale).all() and np.isfinite(found.shift).all()
    return found if good else "a scale or shift is not finite"


def _blocked(linear: gs.Node, node: gs.Node, between: gs.Tensor, keep: set[int]) -> str | None:
    """Why these weights cannot take the factor."""
    readers = [user for user in between.outputs if user.op != "Shape"]  # the shape stays
    if id(between) in keep or len(readers) != 1:
        return f"'{between.name}' is also used elsewhere"
    for tensor in linear.inputs[1:]:
        if len(tensor.outputs) != 1 and not tensor.is_empty():
            return f"weight '{tensor.name}' is shared"
    weight = linear.inputs[1]
    if optional(linear, 2) is None:
        added = (_channels(linear) or 0) * np.dtype(weight.dtype).itemsize
        mine = {id(t): t for t in node.inputs if isinstance(t, gs.Constant) and all(u is node for u in t.outputs)}
        freed = sum(t.values.nbytes for t in mine.values())
        if added > freed and node.op not in ("Mul", "Div"):
            return f"a bias takes {added} bytes, more than the {freed} it replaces"
    return None


def _scale_outputs(linear: gs.Node, found: Affine, names: Names) -> None:
    """W and b of a linear node, followed by `found`."""
    weight, bias, y = linear.inputs[1], optional(linear, 2), linear.outputs[0]
    values = weight.values.astype(np.float64)
    beta = float(linear.attrs.get("beta", 1.0)) if linear.op == "Gemm" else 1.0
    old = 0.0 if bias is None else bias.values.astype(np.float64).reshape(-1) * beta
    shift = np.broadcast_to(old * found.scale + found.shift, found.scale.shape)
    if not np.all(found.scale == 1):
        values = _scaled_weight(linear, values, found.scale)
        linear.inputs[1] = names.constant(y, "weight", values.astype(weight.dtype))
    if bias is None and not shift.any():
        return
    if linear.op == "Gemm":
        linear.attrs["beta"] = 1.0
    made = names.constant(y, "bias", shift.astype(weight.dtype))
    linear.inputs = [*linear.inputs[:2], made]


def _scaled_weight(linear: gs.Node, values: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The weight with each output channel scaled."""
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


def _before(graph: gs.Graph, node: gs.Node, names: Names, keep: set[int], result: PassResult) -> bool:
    """Fuse the BatchNormalization `node` into the Conv or Gemm that alone reads it."""
    if node.op != "BatchNormalization" or node.domain or not node.outputs:
        return False
    y = node.outputs[0]
    user = y.outputs[0] if len(y.outputs) == 1 and id(y) not in keep else None
    if user is None or user.op != "Conv" or user.domain is not None or user.inputs[0] is not y:
        return False
    found: Affine | str = "its weights are not constant" if _channels(user) is None else _batchnorm(node)
    if isinstance(found, Affine) and (why := _padded(user) or _blocked(user, node, y, keep)):
        found = why
    if isinstance(found, str):
        result.skip(node, f"{found} (Conv behind it)")
        return False
    _scale_inputs(user, found, names)
    user.inputs = [node.inputs[0] if t is y else t for t in user.inputs]
    node.inputs.clear()
    node.outputs.clear()
    return True


def _padded(conv: gs.Node) -> str | None:
    auto: Any = conv.attrs.get("auto_pad", "NOTSET")
    auto = auto.decode() if isinstance(auto, bytes) else auto
    if auto not in ("NOTSET", "VALID") or any(conv.attrs.get("pads", [0])):
        return "the Conv pads with 0, after the shift"
    return None


def _scale_inputs(conv: gs.Node, found: Affine, names: Names) -> None:
    """W and b of a Conv whose input comes through `found`."""
    weight, bias, y = conv.inputs[1], optional(conv, 2), conv.outputs[0]
    values, groups = weight.values.astype(np.float64), int(conv.attrs.get("group", 1))
    grouped = values.reshape(groups, values.shape[0] // groups, *values.shape[1:])
    at = (groups, 1, -1, *(1,) * (values.ndim - 2))
    scaled, shifted = grouped * found.scale.reshape(at), grouped * found.shift.reshape(at)
    old = 0.0 if bias is None else bias.values.astype(np.float64)
    shift = shifted.reshape(values.shape[0], -1).sum(axis=1) + old
    made = [
        names.constant(y, "weight", scaled.reshape(values.shape).astype(weight.dtype)),
        names.constant(y, "bias", shift.astype(weight.dtype)),
    ]
    conv.inputs = [conv.inputs[0], *made]
