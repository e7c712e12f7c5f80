"""Lower element-wise ops: binary and unary arithmetic, activations, comparisons, logic, casts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from segc.passes.support.builder import text
from segc.passes.support.edit import optional, scalar
from segc.targets.ncnn.lower.attributes import (
    float_attr,
)
from segc.targets.ncnn.lower.layout import dims, layout_of
from segc.targets.ncnn.lower.net_builder import NetBuilder, float32_values
from segc.targets.ncnn.lower.registry import lower_op
from segc.targets.ncnn.net.net import (
    Blob,
    Refused,
    Weight,
    require,
)
from segc.targets.ncnn.net.params import BINARY, UNARY

ABOVE_ZERO = 0.0  # the threshold of x > 0
AT_LEAST_ZERO = -1.17549435e-38  # the threshold of x >= 0: kernels flush the denormals between this and 0
MAX_FLOAT32 = 3.4028235e38  # ncnn's files hold no infinity
REVERSED = {"sub": "rsub", "div": "rdiv", "add": "add", "mul": "mul", "max": "max", "min": "min"}


@lower_op("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean")
def binary(builder: NetBuilder, node: gs.Node) -> None:
    """BinaryOp of operands of equal rank; Max, Min, Sum and Mean become a chain of them."""
    op = {"Sum": "add", "Mean": "add"}.get(node.op, node.op.lower())
    y = node.outputs[0]
    if len(node.inputs) == 1:
        return builder.bind(y, builder.blob(node.inputs[0]))
    result: Blob | gs.Tensor = node.inputs[0]
    for i, other in enumerate(node.inputs[1:], 1):
        result = combine(builder, f"{op}{i}" if i < len(node.inputs) - 1 else op, op, result, other, y)
    assert isinstance(result, Blob)
    if node.op == "Mean":
        result = with_scalar(builder, "mean", "mul", result, 1 / len(node.inputs))
    elif node.op == "Div" and _is_integer(y):
        # ONNX divides integers rounding towards zero
        result = builder.add_unary("whole", result, UNARY["trunc"])
    return builder.bind(y, result)


def _is_integer(tensor: gs.Tensor) -> bool:
    return tensor.dtype is not None and np.dtype(tensor.dtype).kind in "iu"


def combine(builder: NetBuilder, role: str, op: str, a: Blob | gs.Tensor, b: gs.Tensor, y: gs.Tensor) -> Blob:
    """op(a, b), broadcast as in ONNX to the layout of `y`."""
    if isinstance(b, gs.Constant) and (value := scalar_value(b)) is not None and not isinstance(a, gs.Constant):
        return with_scalar(builder, role, op, operand(builder, a, y), value)
    if isinstance(a, gs.Constant) and (value := scalar_value(a)) is not None:
        return with_scalar(builder, role, REVERSED[op], operand(builder, b, y), value)
    if op in ("add", "mul") and isinstance(b, gs.Constant) and (scaled := per_channel(builder, role, op, a, b, y)):
        return scaled
    if op in ("add", "mul") and isinstance(a, gs.Constant) and (scaled := per_channel(builder, role, op, b, a, y)):
        return scaled
    return builder.add_layer("BinaryOp", role, [operand(builder, a, y), operand(builder, b, y)], op_type=BINARY[op])


def scalar_value(tensor: gs.Constant) -> float | None:
    """The value of a constant with one element; None for others. Raises Refused for an integer inexact in float32."""
    return None if scalar(tensor) is None else float(float32_values(tensor).reshape(()))


def per_channel(
    builder: NetBuilder, role: str, op: str, x: Blob | gs.Tensor, c: gs.Constant, y: gs.Tensor
) -> Blob | None:
    """op(x, c) as a Scale layer where the constant has one number per channel of a map; None elsewhere."""
    layout = layout_of(y)
    if isinstance(x, gs.Constant) or layout.axes is None or len(layout.shape) != 3:
        return None
    aligned = (1,) * (len(y.shape) - len(c.shape)) + dims(c.shape)
    sizes = tuple(aligned[axis] for axis in layout.axes)
    left = operand(builder, x, y)
    if sizes[1:] != (1, 1) or sizes[0] == 1 or left.shape != layout.shape:
        return None
    values = float32_values(c).reshape(-1)
    if op == "mul":
        return builder.add_layer(
            "Scale", role, [left], weights=[Weight(values)], scale_data_size=values.size, bias_term=0
        )
    weights = [Weight(np.ones_like(values)), Weight(values)]
    return builder.add_layer("Scale", role, [left], weights=weights, scale_data_size=values.size, bias_term=1)


def operand(builder: NetBuilder, x: Blob | gs.Tensor, y: gs.Tensor) -> Blob:
    """An operand as a blob with the axes of the result's layout. Raises Refused: it needs an axis that ncnn lacks."""
    if isinstance(x, Blob):
        return x
    layout = layout_of(y)
    if layout.axes is None:
        require(dims(x.shape) == dims(y.shape), f"broadcasting among {len(y.shape)} axes, ncnn has 4")
        return builder.blob(x)
    return builder.align_axes(x, y.shape, layout.axes)


def with_scalar(builder: NetBuilder, role: str, op: str, x: Blob, value: float) -> Blob:
    """op(x, value)."""
    value = min(max(value, -MAX_FLOAT32), MAX_FLOAT32)
    return builder.add_layer("BinaryOp", role, [x], op_type=BINARY[op], with_scalar=1, b=float(value))


UNARY_OPS = {
    "Abs": "abs", "Neg": "neg", "Floor": "floor", "Ceil": "ceil", "Sqrt": "sqrt", "Exp": "exp", "Log": "log",
    "Sin": "sin", "Cos": "cos", "Tan": "tan", "Asin": "asin", "Acos": "acos", "Atan": "atan",
    "Reciprocal": "reciprocal", "Round": "round", "Sign": "sign", "Sinh": "sinh", "Asinh": "asinh", "Cosh": "cosh",
    "Acosh": "acosh", "Atanh": "atanh",
}  # fmt: skip


@lower_op(*UNARY_OPS)
def unary(builder: NetBuilder, node: gs.Node) -> None:
    """UnaryOp."""
    builder.bind(
        node.outputs[0], builder.add_unary(node.op.lower(), builder.blob(node.inputs[0]), UNARY[UNARY_OPS[node.op]])
    )


ACTIVATION_LAYERS: dict[str, tuple[str, Callable[[gs.Node], dict[str, Any]]]] = {
    "Relu": ("ReLU", lambda n: {}),
    "LeakyRelu": ("ReLU", lambda n: {"slope": float_attr(n, "alpha", 0.01)}),
    "Sigmoid": ("Sigmoid", lambda n: {}),
    "Tanh": ("TanH", lambda n: {}),
    "Erf": ("Erf", lambda n: {}),
    "Softplus": ("Softplus", lambda n: {}),
    "Mish": ("Mish", lambda n: {}),
    "Elu": ("ELU", lambda n: {"alpha": float_attr(n, "alpha", 1.0)}),
    "Celu": ("CELU", lambda n: {"alpha": float_attr(n, "alpha", 1.0)}),
    "Selu": (
        "SELU",
        lambda n: {
            "alpha": float_attr(n, "alpha", 1.67326319217681884765625),
            "lambda": float_attr(n, "gamma", 1.05070102214813232),
        },
    ),
    "HardSigmoid": (
        "HardSigmoid",
        lambda n: {"alpha": float_attr(n, "alpha", 0.2), "beta": float_attr(n, "beta", 0.5)},
    ),
    "HardSwish": ("HardSwish", lambda n: {"alpha": 1 / 6, "beta": 0.5}),
}


@lower_op(*ACTIVATION_LAYERS)
def activation(builder: NetBuilder, node: gs.Node) -> None:
    """Activations that have an ncnn layer of their own."""
    type_, params = ACTIVATION_LAYERS[node.op]
    builder.bind(
        node.outputs[0], builder.add_layer(type_, node.op.lower(), [builder.blob(node.inputs[0])], **params(node))
    )


@lower_op("Gelu")
def gelu(builder: NetBuilder, node: gs.Node) -> None:
    """GELU, exact or approximated with tanh."""
    fast = int(text(node, "approximate", "none") == "tanh")
    builder.bind(node.outputs[0], builder.add_layer("GELU", "gelu", [builder.blob(node.inputs[0])], fast_gelu=fast))


@lower_op("PRelu")
def prelu(builder: NetBuilder, node: gs.Node) -> None:
    """PReLU with one slope, or one per channel."""
    x, slope = node.inputs
    if not isinstance(slope, gs.Constant):
        raise Refused("its slopes are computed at run time")
    blob, values = builder.blob(x), float32_values(slope).reshape(-1)
    aligned = (1,) * (len(x.shape) - len(slope.shape)) + dims(slope.shape)
    axes = layout_of(x).axes
    per_channel = axes is not None and all(size == 1 or axis == axes[0] for axis, size in enumerate(aligned))
    require(values.size == 1 or per_channel, f"slopes of shape {list(slope.shape)} on {list(x.shape)}")
    builder.bind(
        node.outputs[0], builder.add_layer("PReLU", "prelu", [blob], weights=[Weight(values)], num_slope=values.size)
    )


@lower_op("Clip")
def clip(builder: NetBuilder, node: gs.Node) -> None:
    """Clip; an absent bound is the largest float32."""
    bounds = []
    for index, name, default in ((1, "min", -MAX_FLOAT32), (2, "max", MAX_FLOAT32)):
        tensor = optional(node, index)
        value = node.attrs.get(name) if tensor is None else scalar(tensor)
        require(tensor is None or value is not None, f"its {name} is computed at run time")
        bounds.append(default if value is None else min(max(float(value), -MAX_FLOAT32), MAX_FLOAT32))
    builder.bind(
        node.outputs[0], builder.add_layer("Clip", "clip", [builder.blob(node.inputs[0])], min=bounds[0], max=bounds[1])
    )


@lower_op("Pow")
def power(builder: NetBuilder, node: gs.Node) -> None:
    """Small integer powers, the square root and its reciprocal: ncnn's pow is wrong for negative numbers."""
    value = scalar(node.inputs[1])
    require(value is not None, "its exponent is not one constant")
    x = builder.blob(node.inputs[0])
    simple = {0.5: "sqrt", -0.5: "rsqrt", -1.0: "reciprocal", 2.0: "square"}
    if value == 1.0:
        return builder.bind(node.outputs[0], x)
    if value in simple:
        return builder.bind(node.outputs[0], builder.add_unary("power", x, UNARY[simple[value]]))
    require(value in (3.0, 4.0), f"the exponent is {value}, supported are 1, 2, 3, 4, 0.5, -0.5 and -1")
    square = builder.add_unary("square", x, UNARY["square"])
    other = x if value == 3.0 else square
    return builder.bind(node.outputs[0], builder.add_layer("BinaryOp", "power", [square, other], op_type=BINARY["mul"]))


@lower_op("Mod")
def modulo(builder: NetBuilder, node: gs.Node) -> None:
    """x - d * floor(x / d), for integers and one positive constant d."""
    divisor = scalar(node.inputs[1])
    x, y = node.inputs[0], node.outputs[0]
    require(divisor is not None and divisor > 0, "its divisor is not one positive constant")
    require(int(node.attrs.get("fmod", 0)) == 0 and _is_integer(x), "only the remainder of integers is supported")
    assert divisor is not None
    blob = builder.blob(x)
    quotient = builder.add_unary("times", with_scalar(builder, "quotient", "div", blob, divisor), UNARY["floor"])
    multiple = with_scalar(builder, "multiple", "mul", quotient, divisor)
    builder.bind(y, builder.add_layer("BinaryOp", "rest", [blob, multiple], op_type=BINARY["sub"]))


def threshold(builder: NetBuilder, role: str, x: Blob, above: float) -> Blob:
    """A mask: 1 where x > above, otherwise 0."""
    return builder.add_layer("Threshold", role, [x], threshold=above)


@lower_op("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal")
def compare(builder: NetBuilder, node: gs.Node) -> None:
    """A mask of zeros and ones, from the sign of the difference."""
    a, b = node.inputs
    y = node.outputs[0]
    if node.op.startswith("Less"):
        a, b = b, a
    difference = combine(builder, "difference", "sub", a, b, y)
    if node.op == "Equal":
        differs = threshold(builder, "other", builder.add_unary("distance", difference, UNARY["abs"]), ABOVE_ZERO)
        return builder.bind(y, with_scalar(builder, "equal", "rsub", differs, 1.0))
    bound = AT_LEAST_ZERO if node.op.endswith("OrEqual") else ABOVE_ZERO
    return builder.bind(y, threshold(builder, "mask", difference, bound))


@lower_op("And", "Or", "Xor")
def logic(builder: NetBuilder, node: gs.Node) -> None:
    """Of masks of zeros and ones, And is the product, Or the maximum, Xor the absolute difference."""
    a, b = node.inputs
    y = node.outputs[0]
    if node.op == "Xor":
        return builder.bind(y, builder.add_unary("xor", combine(builder, "difference", "sub", a, b, y), UNARY["abs"]))
    return builder.bind(y, combine(builder, node.op.lower(), "mul" if node.op == "And" else "max", a, b, y))


@lower_op("Not")
def negation(builder: NetBuilder, node: gs.Node) -> None:
    """1 - mask."""
    builder.bind(node.outputs[0], with_scalar(builder, "not", "rsub", builder.blob(node.inputs[0]), 1.0))


@lower_op("Where")
def where(builder: NetBuilder, node: gs.Node) -> None:
    """mask * a + (1 - mask) * b. Constants must be finite: 0 times infinity is NaN."""
    mask, a, b = node.inputs
    y = node.outputs[0]
    for choice in (a, b):
        finite = not isinstance(choice, gs.Constant) or bool(np.isfinite(choice.values).all())
        require(finite, f"'{choice.name}' holds an infinity or NaN, which times 0 is NaN")
    chosen = combine(builder, "chosen", "mul", operand(builder, mask, y), a, y)
    rest = with_scalar(builder, "rest", "rsub", operand(builder, mask, y), 1.0)
    other = combine(builder, "other", "mul", rest, b, y)
    builder.bind(y, builder.add_layer("BinaryOp", "where", [chosen, other], op_type=BINARY["add"]))


@lower_op("Cast")
def cast(builder: NetBuilder, node: gs.Node) -> None:
    """All types are float32 here: a Cast to integers truncates, to bool tests for non-zero, else does nothing."""
    x, y = node.inputs[0], node.outputs[0]
    blob = builder.blob(x)
    from_kind, to_kind = (None if t.dtype is None else np.dtype(t.dtype).kind for t in (x, y))
    if to_kind == "b" and from_kind != "b":
        return builder.bind(y, threshold(builder, "mask", builder.add_unary("size", blob, UNARY["abs"]), ABOVE_ZERO))
    if to_kind in ("i", "u") and from_kind == "f":
        return builder.bind(y, builder.add_unary("whole", blob, UNARY["trunc"]))
    return builder.bind(y, blob)


@lower_op("Identity", "Dropout")
def identity(builder: NetBuilder, node: gs.Node) -> None:
    """No layer: the output is the input's blob."""
    for other in node.outputs[1:]:
        require(other.is_empty(), "its mask is used")
    builder.bind(node.outputs[0], builder.blob(node.inputs[0]))


@lower_op("BatchNormalization")
def batch_normalization(builder: NetBuilder, node: gs.Node) -> None:
    """BatchNorm; ncnn's weights are scale, mean, variance and bias, in this order."""
    x = node.inputs[0]
    require(all(isinstance(t, gs.Constant) for t in node.inputs[1:5]), "its parameters are computed at run time")
    require(all(t.is_empty() for t in node.outputs[1:]), "it is in training mode")
    scale, bias, mean, variance = (float32_values(t) for t in node.inputs[1:5])
    blob: Blob = builder.blob(x)
    axes = layout_of(x).axes
    require(axes is not None and axes[0] == 1, f"the channels of '{x.name}' are not its outermost axis in ncnn")
    weights = [Weight(values) for values in (scale, mean, variance, bias)]
    eps = float_attr(node, "epsilon", 1e-5)
    builder.bind(
        node.outputs[0], builder.add_layer("BatchNorm", "norm", [blob], weights=weights, channels=scale.size, eps=eps)
    )
