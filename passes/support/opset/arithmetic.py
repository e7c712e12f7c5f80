"""Older forms of ops that compute elementwise, normalize or quantize."""

from __future__ import annotations

import numpy as np
import onnx.helper
import onnx_graphsurgeon as gs

from segc.passes.support.builder import RewriteNotApplicable, typed
from segc.passes.support.edit import rank, small_constant
from segc.passes.support.opset.older_node import OlderNode, Rule, Site, known_rank, older_attributes, same_op


def _softmax(site: Site) -> OlderNode | gs.Tensor:
    """Before opset 13 all axes from `axis` on were one; on the last axis, or before sizes of 1, that is the same."""
    if site.opset >= 13:
        return same_op(site)
    x, dims = site.node.inputs[0], known_rank(site.node.inputs[0])
    axis = site.node.attrs.get("axis", -1) % dims
    if all(size == 1 for size in x.shape[axis + 1 :]):
        return OlderNode(site.node.op, {"axis": axis}, [x])
    swap = list(range(dims))
    swap[axis], swap[-1] = swap[-1], swap[axis]
    last = site.build.op(site.node.op, "last", site.build.transpose("swapped", x, swap), axis=dims - 1)
    return site.build.transpose("back", last, swap)


def _dropout(site: Site) -> OlderNode:
    """Dropout in inference, without the inputs that opset 12 has introduced."""
    if site.opset >= 12:
        return same_op(site)
    training = site.input(2)
    flag = None if training is None else small_constant(training)
    if training is not None and (flag is None or flag.any()):
        raise RewriteNotApplicable("it may be in training mode")
    return OlderNode("Dropout", {}, [site.node.inputs[0]])


def _cast_like(site: Site) -> OlderNode:
    if site.older is not None:
        return same_op(site)
    like = site.node.inputs[1].dtype
    if like is None:
        raise RewriteNotApplicable(f"the type of '{site.node.inputs[1].name}' is unknown")
    to = int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(like)))
    return OlderNode("Cast", {"to": to}, [site.node.inputs[0]])


def _quantize(site: Site) -> OlderNode:
    """Before opset 13 there was one scale for the whole tensor."""
    attrs = dict(site.node.attrs)
    if site.opset < 13:
        if rank(site.node.inputs[1]) != 0:
            raise RewriteNotApplicable(f"one scale per channel has no form in opset {site.opset}")
        attrs.pop("axis", None)
    return OlderNode(site.node.op, older_attributes(site, attrs), list(site.node.inputs))


def _or_equal(strict: str) -> Rule:
    """GreaterOrEqual and LessOrEqual as the strict comparison or Equal."""

    def rule(site: Site) -> OlderNode | gs.Tensor:
        if site.older is not None:
            return same_op(site)
        operands = site.node.inputs
        apart = site.build.op(strict, "apart", *operands)
        return site.build.op("Or", "either", apart, site.build.op("Equal", "equal", *operands))

    return rule


def _hard_swish(site: Site) -> OlderNode | gs.Tensor:
    if site.older is not None:
        return same_op(site)
    x = site.node.inputs[0]
    return site.build.op("Mul", "swish", x, site.build.op("HardSigmoid", "gate", x, alpha=1 / 6, beta=0.5))


def _mish(site: Site) -> OlderNode | gs.Tensor:
    if site.older is not None:
        return same_op(site)
    x = site.node.inputs[0]
    return site.build.op("Mul", "mish", x, site.build.op("Tanh", "gate", site.build.op("Softplus", "soft", x)))


def _swish(site: Site) -> OlderNode | gs.Tensor:
    """x * sigmoid(alpha * x)."""
    if site.older is not None:
        return same_op(site)
    x, alpha = site.node.inputs[0], float(site.node.attrs.get("alpha", 1.0))
    typed(x)
    steep = x if alpha == 1 else site.build.op("Mul", "steep", x, site.build.const("alpha", alpha, x.dtype))
    return site.build.op("Mul", "swish", x, site.build.op("Sigmoid", "gate", steep))


def _rms_normalization(site: Site) -> OlderNode | gs.Tensor:
    """x / sqrt(mean(x * x) + epsilon) * scale, over the axes from `axis` on."""
    if site.older is not None:
        return same_op(site)
    b, attrs = site.build, site.node.attrs
    x, scale = site.node.inputs
    typed(x, scale)
    if x.dtype != np.float32:
        raise RewriteNotApplicable(f"it normalizes {np.dtype(x.dtype)}")
    dims = len(x.shape)
    axes = list(range(int(attrs.get("axis", -1)) % dims, dims))
    mean = b.reduce("ReduceMean", "mean", b.op("Mul", "squares", x, x), axes)
    raised = b.op("Add", "raised", mean, b.const("epsilon", float(attrs.get("epsilon", 1e-5)), x.dtype))
    return b.op("Mul", "scaled", b.op("Div", "normalized", x, b.op("Sqrt", "root", raised)), scale)


def _modulo(site: Site) -> OlderNode | gs.Tensor:
    """Before opset 28 floats have no remainder with the sign of the divisor: it is the other one, moved by y."""
    x, y = site.node.inputs
    if site.older is None or site.opset >= 28 or site.node.attrs.get("fmod", 0):
        return same_op(site)
    typed(x, y)
    if np.dtype(x.dtype).kind != "f":
        return same_op(site)
    b, zero = site.build, site.build.const("zero", 0, x.dtype)
    rest = b.op("Mod", "rest", x, y, fmod=1)
    apart = b.op("Xor", "apart", b.op("Less", "rest_below", rest, zero), b.op("Less", "below", y, zero))
    some = b.op("Not", "some", b.op("Equal", "none", rest, zero))
    moved = b.op("Add", "moved", rest, y)
    return b.op("Where", "remainder", b.op("And", "moves", apart, some), moved, rest)


def _different_meaning(site: Site) -> OlderNode:
    """Ops that both opsets write alike but define differently."""
    if site.older is None:
        return same_op(site)
    raise RewriteNotApplicable(f"{site.node.op} means something else in opset {site.opset}")


RULES: dict[str, Rule] = {
    **dict.fromkeys(["Softmax", "LogSoftmax", "Hardmax"], _softmax),
    **dict.fromkeys(["QuantizeLinear", "DequantizeLinear"], _quantize),
    **dict.fromkeys(["DFT", "GroupNormalization"], _different_meaning),
    "Dropout": _dropout,
    "CastLike": _cast_like,
    "GreaterOrEqual": _or_equal("Greater"),
    "LessOrEqual": _or_equal("Less"),
    "HardSwish": _hard_swish,
    "RMSNormalization": _rms_normalization,
    "Swish": _swish,
    "Mish": _mish,
    "Mod": _modulo,
}
