"""Rows for arithmetic cell by cell: two operands, one operand, comparisons, casts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from segc.passes.support.builder import text
from segc.passes.support.edit import optional, scalar
from segc.targets.ncnn.lower.attributes import real
from segc.targets.ncnn.lower.layout import dims
from segc.targets.ncnn.lower.lowering import Emission, numbers, row
from segc.targets.ncnn.net.net import Blob, Refused, Weight, require
from segc.targets.ncnn.net.params import BINARY, UNARY

ABOVE = 0.0  # x > 0
AT_LEAST = -1.17549435e-38  # x >= 0: kernels flush what lies between this and 0
LIMIT = 3.4028235e38  # the largest float32; ncnn's files hold no infinity
REVERSED = {"sub": "rsub", "div": "rdiv", "add": "add", "mul": "mul", "max": "max", "min": "min"}


@row("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean")
def binary(e: Emission, node: gs.Node) -> None:
    """BinaryOp, operands brought to one rank; Max, Min, Sum and Mean take any number of operands."""
    op = {"Sum": "add", "Mean": "add"}.get(node.op, node.op.lower())
    y = node.outputs[0]
    if len(node.inputs) == 1:
        return e.put(y, e.blob(node.inputs[0]))
    made: Blob | gs.Tensor = node.inputs[0]
    for at, other in enumerate(node.inputs[1:], 1):
        made = combine(e, f"{op}{at}" if at < len(node.inputs) - 1 else op, op, made, other, y)
    assert isinstance(made, Blob)
    if node.op == "Mean":
        made = with_scalar(e, "mean", "mul", made, 1 / len(node.inputs))
    elif node.op == "Div" and _whole(y):
        # in ONNX the division of integers rounds towards zero
        made = e.unary("whole", made, UNARY["trunc"])
    return e.put(y, made)


def _whole(tensor: gs.Tensor) -> bool:
    return tensor.dtype is not None and np.dtype(tensor.dtype).kind in "iu"


def combine(e: Emission, role: str, op: str, a: Blob | gs.Tensor, b: gs.Tensor, y: gs.Tensor) -> Blob:
    """op(a, b), broadcast as ONNX does into the layout of `y`."""
    if isinstance(b, gs.Constant) and (value := number(b)) is not None and not isinstance(a, gs.Constant):
        return with_scalar(e, role, op, operand(e, a, y), value)
    if isinstance(a, gs.Constant) and (value := number(a)) is not None:
        return with_scalar(e, role, REVERSED[op], operand(e, b, y), value)
    if op in ("add", "mul") and isinstance(b, gs.Constant) and (made := per_channel(e, role, op, a, b, y)):
        return made
    if op in ("add", "mul") and isinstance(a, gs.Constant) and (made := per_channel(e, role, op, b, a, y)):
        return made
    return e.layer("BinaryOp", role, [operand(e, a, y), operand(e, b, y)], op_type=BINARY[op])


def number(tensor: gs.Constant) -> float | None:
    """The only number of a constant. Raises Refused when it is an integer that float32 does not hold."""
    return None if scalar(tensor) is None else float(numbers(tensor).reshape(()))


def per_channel(e: Emission, role: str, op: str, x: Blob | gs.Tensor, c: gs.Constant, y: gs.Tensor) -> Blob | None:
    """Scale, where the constant has one number for each outermost cell of a map, None elsewhere."""
    layout = e.layout(y)
    if isinstance(x, gs.Constant) or layout.axes is None or len(layout.shape) != 3:
        return None
    padded = (1,) * (len(y.shape) - len(c.shape)) + dims(c.shape)
    sizes = tuple(padded[axis] for axis in layout.axes)
    left = operand(e, x, y)
    if sizes[1:] != (1, 1) or sizes[0] == 1 or left.shape != layout.shape:
        return None
    values = numbers(c).reshape(-1)
    if op == "mul":
        return e.layer("Scale", role, [left], weights=[Weight(values)], scale_data_size=values.size, bias_term=0)
    weights = [Weight(np.ones_like(values)), Weight(values)]
    return e.layer("Scale", role, [left], weights=weights, scale_data_size=values.size, bias_term=1)


def operand(e: Emission, x: Blob | gs.Tensor, y: gs.Tensor) -> Blob:
    """An operand in the axes of the result's layout."""
    if isinstance(x, Blob):
        return x
    layout = e.layout(y)
    if layout.axes is None:
        require(dims(x.shape) == dims(y.shape), f"broadcasting among {len(y.shape)} axes, ncnn has 4")
        return e.blob(x)
    return e.arranged(x, y.shape, layout.axes)


def with_scalar(e: Emission, role: str, op: str, x: Blob, value: float) -> Blob:
    """op(x, value)."""
    value = min(max(value, -LIMIT), LIMIT)
    return e.layer("BinaryOp", role, [x], op_type=BINARY[op], with_scalar=1, b=float(value))


PLAIN = {
    "Abs": "abs", "Neg": "neg", "Floor": "floor", "Ceil": "ceil", "Sqrt": "sqrt", "Exp": "exp", "Log": "log",
    "Sin": "sin", "Cos": "cos", "Tan": "tan", "Asin": "asin", "Acos": "acos", "Atan": "atan",
    "Reciprocal": "reciprocal", "Round": "round", "Sign": "sign", "Sinh": "sinh", "Asinh": "asinh", "Cosh": "cosh",
    "Acosh": "acosh", "Atanh": "atanh",
}  # fmt: skip


@row(*PLAIN)
def unary(e: Emission, node: gs.Node) -> None:
    """UnaryOp."""
    e.put(node.outputs[0], e.unary(node.op.lower(), e.blob(node.inputs[0]), UNARY[PLAIN[node.op]]))


LAYER: dict[str, tuple[str, Callable[[gs.Node], dict[str, Any]]]] = {
    "Relu": ("ReLU", lambda n: {}),
    "LeakyRelu": ("ReLU", lambda n: {"slope": real(n, "alpha", 0.01)}),
    "Sigmoid": ("Sigmoid", lambda n: {}),
    "Tanh": ("TanH", lambda n: {}),
    "Erf": ("Erf", lambda n: {}),
    "Softplus": ("Softplus", lambda n: {}),
    "Mish": ("Mish", lambda n: {}),
    "Elu": ("ELU", lambda n: {"alpha": real(n, "alpha", 1.0)}),
    "Celu": ("CELU", lambda n: {"alpha": real(n, "alpha", 1.0)}),
    "Selu": (
        "SELU",
        lambda n: {
            "alpha": real(n, "alpha", 1.67326319217681884765625),
            "lambda": real(n, "gamma", 1.05070102214813232),
        },
    ),
    "HardSigmoid": ("HardSigmoid", lambda n: {"alpha": real(n, "alpha", 0.2), "beta": real(n, "beta", 0.5)}),
    "HardSwish": ("HardSwish", lambda n: {"alpha": 1 / 6, "beta": 0.5}),
}


@row(*LAYER)
def activation(e: Emission, node: gs.Node) -> None:
    """Activations with a layer of their own."""
    type_, params = LAYER[node.op]
    e.put(node.outputs[0], e.layer(type_, node.op.lower(), [e.blob(node.inputs[0])], **params(node)))


@row("Gelu")
def gelu(e: Emission, node: gs.Node) -> None:
    """GELU with the error function or with tanh."""
    fast = int(text(node, "approximate", "none") == "tanh")
    e.put(node.outputs[0], e.layer("GELU", "gelu", [e.blob(node.inputs[0])], fast_gelu=fast))


@row("PRelu")
def prelu(e: Emission, node: gs.Node) -> None:
    """PReLU with one slope or one for each channel."""
    x, slope = node.inputs
    if not isinstance(slope, gs.Constant):
        raise Refused("its slopes are computed at run time")
    blob, values = e.blob(x), numbers(slope).reshape(-1)
    padded = (1,) * (len(x.shape) - len(slope.shape)) + dims(slope.shape)
    outer = e.layout(x).axes
    alone = outer is not None and all(size == 1 or at == outer[0] for at, size in enumerate(padded))
    require(values.size == 1 or alone, f"slopes of shape {list(slope.shape)} on {list(x.shape)}")
    e.put(node.outputs[0], e.layer("PReLU", "prelu", [blob], weights=[Weight(values)], num_slope=values.size))


@row("Clip")
def clip(e: Emission, node: gs.Node) -> None:
    """Clip; a bound that is absent is the largest float32."""
    bounds = []
    for at, name, default in ((1, "min", -LIMIT), (2, "max", LIMIT)):
        tensor = optional(node, at)
        value = node.attrs.get(name) if tensor is None else scalar(tensor)
        require(tensor is None or value is not None, f"its {name} is computed at run time")
        bounds.append(default if value is None else min(max(float(value), -LIMIT), LIMIT))
    e.put(node.outputs[0], e.layer("Clip", "clip", [e.blob(node.inputs[0])], min=bounds[0], max=bounds[1]))


@row("Pow")
def power(e: Emission, node: gs.Node) -> None:
    """Small whole powers, the square root and its inverse; ncnn's own pow is wrong for negative numbers."""
    value = scalar(node.inputs[1])
    require(value is not None, "its exponent is not one constant number")
    x = e.blob(node.inputs[0])
    simple = {0.5: "sqrt", -0.5: "rsqrt", -1.0: "reciprocal", 2.0: "square"}
    if value == 1.0:
        return e.put(node.outputs[0], x)
    if value in simple:
        return e.put(node.outputs[0], e.unary("power", x, UNARY[simple[value]]))
    require(value in (3.0, 4.0), f"the exponent is {value}; 3, 4, 2, 1, 0.5, -0.5 and -1 have a spelling")
    square = e.unary("square", x, UNARY["square"])
    other = x if value == 3.0 else square
    return e.put(node.outputs[0], e.layer("BinaryOp", "power", [square, other], op_type=BINARY["mul"]))


@row("Mod")
def modulo(e: Emission, node: gs.Node) -> None:
    """x - s * floor(x / s), for whole numbers and one positive divisor."""
    value = scalar(node.inputs[1])
    x, y = node.inputs[0], node.outputs[0]
    require(value is not None and value > 0, "its divisor is not one positive constant")
    require(int(node.attrs.get("fmod", 0)) == 0 and _whole(x), "only the remainder of integers has a spelling")
    assert value is not None
    blob = e.blob(x)
    count = e.unary("times", with_scalar(e, "quotient", "div", blob, value), UNARY["floor"])
    e.put(
        y, e.layer("BinaryOp", "rest", [blob, with_scalar(e, "multiple", "mul", count, value)], op_type=BINARY["sub"])
    )


def threshold(e: Emission, role: str, x: Blob, above: float) -> Blob:
    """1 where x > above, otherwise 0."""
    return e.layer("Threshold", role, [x], threshold=above)


@row("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal")
def compare(e: Emission, node: gs.Node) -> None:
    """A mask of zeros and ones: the sign of the difference."""
    a, b = node.inputs
    y = node.outputs[0]
    if node.op.startswith("Less"):
        a, b = b, a
    difference = combine(e, "difference", "sub", a, b, y)
    if node.op == "Equal":
        other = threshold(e, "other", e.unary("distance", difference, UNARY["abs"]), ABOVE)
        return e.put(y, with_scalar(e, "equal", "rsub", other, 1.0))
    return e.put(y, threshold(e, "mask", difference, AT_LEAST if node.op.endswith("OrEqual") else ABOVE))


@row("And", "Or", "Xor")
def logic(e: Emission, node: gs.Node) -> None:
    """Masks of zeros and ones: product, maximum, distance."""
    a, b = node.inputs
    y = node.outputs[0]
    if node.op == "Xor":
        return e.put(y, e.unary("xor", combine(e, "difference", "sub", a, b, y), UNARY["abs"]))
    return e.put(y, combine(e, node.op.lower(), "mul" if node.op == "And" else "max", a, b, y))


@row("Not")
def negation(e: Emission, node: gs.Node) -> None:
    """1 - mask."""
    e.put(node.outputs[0], with_scalar(e, "not", "rsub", e.blob(node.inputs[0]), 1.0))


@row("Where")
def where(e: Emission, node: gs.Node) -> None:
    """mask * a + (1 - mask) * b, for finite numbers."""
    mask, a, b = node.inputs
    y = node.outputs[0]
    for side in (a, b):
        finite = not isinstance(side, gs.Constant) or bool(np.isfinite(side.values).all())
        require(finite, f"'{side.name}' holds an infinity, which times 0 is not a number")
    chosen = combine(e, "chosen", "mul", operand(e, mask, y), a, y)
    rest = with_scalar(e, "rest", "rsub", operand(e, mask, y), 1.0)
    other = combine(e, "other", "mul", rest, b, y)
    e.put(y, e.layer("BinaryOp", "where", [chosen, other], op_type=BINARY["add"]))


@row("Cast")
def cast(e: Emission, node: gs.Node) -> None:
    """Floats stand in for all types: only the rounding and the test of a cast are left."""
    x, y = node.inputs[0], node.outputs[0]
    blob = e.blob(x)
    before, after = (None if t.dtype is None else np.dtype(t.dtype).kind for t in (x, y))
    if after == "b" and before != "b":
        return e.put(y, threshold(e, "mask", e.unary("size", blob, UNARY["abs"]), ABOVE))
    if after in ("i", "u") and before == "f":
        return e.put(y, e.unary("whole", blob, UNARY["trunc"]))
    return e.put(y, blob)


@row("Identity", "Dropout")
def identity(e: Emission, node: gs.Node) -> None:
    """Nothing."""
    for other in node.outputs[1:]:
        require(other.is_empty(), "its mask is used")
    e.put(node.outputs[0], e.blob(node.inputs[0]))


@row("BatchNormalization")
def batch_normalization(e: Emission, node: gs.Node) -> None:
    """BatchNorm: slopes, means, variances, biases."""
    x = node.inputs[0]
    require(all(isinstance(t, gs.Constant) for t in node.inputs[1:5]), "its parameters are computed at run time")
    require(all(t.is_empty() for t in node.outputs[1:]), "it is in training mode")
    scale, bias, mean, variance = (numbers(t) for t in node.inputs[1:5])
    blob: Blob = e.blob(x)
    outer = e.layout(x).axes
    require(outer is not None and outer[0] == 1, f"the channels of '{x.name}' are not its outermost axis in ncnn")
    weights = [Weight(values) for values in (scale, mean, variance, bias)]
    eps = real(node, "epsilon", 1e-5)
    e.put(node.outputs[0], e.layer("BatchNorm", "norm", [blob], weights=weights, channels=scale.size, eps=eps))
