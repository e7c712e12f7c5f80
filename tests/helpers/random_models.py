"""Random valid ONNX models from the ops of segmentation networks, as hypothesis strategies.

Every feature map is (N, C, h, w), where h and w are the input's size halved `level` times, rounded up, or the bins of
an adaptive pool. Two maps of different size meet through a Resize whose size is computed from Shape, as exporters write
it. So one model is valid for every input size, and its shape arithmetic is real.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
from hypothesis import strategies as st

T = TypeVar("T")
SEGC = "segc"
END = 2**63 - 1


@dataclass(frozen=True)
class Map:
    """A feature map: its tensor, its channels, and its level (or the bins of a pool, then its size is fixed)."""

    name: str
    channels: int
    level: int | tuple[int, int]


@dataclass
class Model:
    """A model under construction."""

    seed: int
    opset: int = 20
    maps: list[Map] = field(default_factory=list)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.opset = self.pick((17, 18, 20))

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self.rng.integers(len(options)))]

    def coin(self) -> bool:
        return self.pick((False, True))

    def op(self, kind: str, *inputs: str, domain: str = "", outputs: int = 1, **attrs: Any) -> str:
        names = [f"t{len(self.nodes)}" + (f"_{i}" if i else "") for i in range(outputs)]
        self.nodes.append(onnx.helper.make_node(kind, list(inputs), names, domain=domain, **attrs))
        return names[0]

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """A constant: an initializer, or a Constant node."""
        array = np.asarray(value, dtype)
        if array.size < 9 and self.coin():
            return self.op("Constant", value=onnx.numpy_helper.from_array(array))
        name = f"c{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(array, name))
        return name

    def ints(self, *values: int) -> str:
        return self.constant(values, np.int64)

    def weight(self, *shape: int, scale: float | None = None) -> str:
        fan_in = math.prod(shape[1:]) or 1
        value = self.rng.standard_normal(shape) * (scale or 1 / math.sqrt(fan_in))
        name = f"c{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(value.astype(np.float32), name))
        return name

    def map(self) -> Map:
        """A map to go on from, the newest more often."""
        return self.pick([*self.maps, self.maps[-1], self.maps[-1]])

    def small_enough(self, x: Map) -> bool:
        return not isinstance(x.level, int) or x.level < 3

    def side(self, x: Map, axis: int) -> str:
        """The size of x along an axis, as a vector of one: spelled in one of the ways of exporters."""
        how = self.pick(("gather", "slice", "attrs"))
        if how == "attrs" and self.opset >= 15:
            return self.op("Shape", x.name, start=axis, end=axis + 1)
        shape = self.op("Shape", x.name)
        if how == "gather":
            scalar = self.op("Gather", shape, self.constant(axis, np.int64), axis=0)
            return self.op("Unsqueeze", scalar, self.ints(0))
        return self.op("Slice", shape, self.ints(axis), self.ints(axis + 1))


Rule = Callable[[Model], Map]


def conv(m: Model) -> Map:
    x = m.map()
    kernel, dilation = m.pick((1, 3)), m.pick((1, 1, 2))
    stride = m.pick((1, 1, 2)) if m.small_enough(x) and isinstance(x.level, int) else 1
    depthwise = m.coin() and x.channels > 1
    out = x.channels if depthwise else m.pick((2, 4, 6))
    group = x.channels if depthwise else 1
    pad = dilation * (kernel // 2)
    inputs = [x.name, m.weight(out, x.channels // group, kernel, kernel)]
    if m.coin():
        inputs.append(m.weight(out, scale=0.5))
    pads = [pad] * 4
    if m.pick((False, False, True)) and kernel > 1:  # padding as a node of its own
        inputs[0] = m.op("Pad", x.name, m.ints(0, 0, pad, pad, 0, 0, pad, pad))
        pads = [0] * 4
    y = m.op(
        "Conv",
        *inputs,
        kernel_shape=[kernel] * 2,
        pads=pads,
        strides=[stride] * 2,
        dilations=[dilation] * 2,
        group=group,
    )
    return Map(y, out, x.level + 1 if stride == 2 and isinstance(x.level, int) else x.level)


def conv_transpose(m: Model) -> Map:
    x = m.map()
    if not isinstance(x.level, int) or x.level < 1:
        return conv(m)
    out = m.pick((2, 4))
    large = m.op("ConvTranspose", x.name, m.weight(x.channels, out, 2, 2), kernel_shape=[2, 2], strides=[2, 2])
    y = _resized(m, Map(large, out, x.level), _of_level(m, x.level - 1))
    return Map(y, out, x.level - 1)


def _of_level(m: Model, level: int) -> Map:
    return next((x for x in m.maps if x.level == level), m.maps[0])


def batch_norm(m: Model) -> Map:
    x = m.map()
    stats = [m.weight(x.channels, scale=0.5) for _ in range(3)]
    variance = m.constant(m.rng.uniform(0.5, 2, x.channels))
    return Map(m.op("BatchNormalization", x.name, *stats, variance, epsilon=1e-3), x.channels, x.level)


def instance_norm(m: Model) -> Map:
    x = m.map()
    pair = [m.weight(x.channels, scale=0.5) for _ in range(2)]
    return Map(m.op("InstanceNormalization", x.name, *pair, epsilon=1e-2), x.channels, x.level)


def group_norm(m: Model) -> Map:
    """Reshape, InstanceNormalization, Reshape back, scale and shift: how exporters spell it."""
    x = m.map()
    if x.channels % 2:
        return instance_norm(m)
    groups = m.op("Reshape", x.name, m.ints(0, 2, -1))
    normal = m.op("InstanceNormalization", groups, m.constant(np.ones(2)), m.constant(np.zeros(2)), epsilon=1e-2)
    back = m.op("Reshape", normal, m.op("Shape", x.name))
    scaled = m.op("Mul", back, m.constant(m.rng.uniform(0.5, 1, (x.channels, 1, 1))))
    return Map(m.op("Add", scaled, m.constant(m.rng.uniform(0, 1, (x.channels, 1, 1)))), x.channels, x.level)


def layer_norm(m: Model) -> Map:
    x = m.map()
    last = m.op("Transpose", x.name, perm=[0, 2, 3, 1])
    if m.coin():
        pair = [m.weight(x.channels, scale=0.5) for _ in range(2)]
        normal = m.op("LayerNormalization", last, *pair, axis=-1, epsilon=1e-2)
    else:
        axes: dict[str, Any] = {"axes": [-1]} if m.opset < 18 else {}
        mean = m.op("ReduceMean", last, *([] if axes else [m.ints(-1)]), keepdims=1, **axes)
        centred = m.op("Sub", last, mean)
        squared = m.op("Pow", centred, m.constant(2.0))
        variance = m.op("ReduceMean", squared, *([] if axes else [m.ints(-1)]), keepdims=1, **axes)
        normal = m.op("Div", centred, m.op("Sqrt", m.op("Add", variance, m.constant(1e-2))))
    return Map(m.op("Transpose", normal, perm=[0, 3, 1, 2]), x.channels, x.level)


def activation(m: Model) -> Map:
    x = m.map()
    kind = m.pick(
        ("Relu", "Relu", "Sigmoid", "HardSwish", "LeakyRelu", "Elu", "Tanh", "Clip", "PRelu", "silu", "gelu", "hard")
    )
    if kind == "Clip":
        y = m.op("Clip", x.name, m.constant(0.0), m.constant(6.0))
    elif kind == "PRelu":
        y = m.op("PRelu", x.name, m.weight(x.channels, 1, 1, scale=0.2))
    elif kind == "silu":
        y = m.op("Mul", x.name, m.op("Sigmoid", x.name))
    elif kind == "gelu":
        erf = m.op("Erf", m.op("Div", x.name, m.constant(math.sqrt(2))))
        y = m.op("Mul", m.op("Mul", x.name, m.op("Add", erf, m.constant(1.0))), m.constant(0.5))
    elif kind == "hard":
        y = m.op("Mul", x.name, m.op("HardSigmoid", x.name, alpha=1 / 6, beta=0.5))
    else:
        y = m.op(kind, x.name)
    return Map(y, x.channels, x.level)


def arithmetic(m: Model) -> Map:
    """x op constant: scalars, one value a channel, and the neutral ones."""
    x = m.map()
    kind = m.pick(("Add", "Mul", "Sub", "Div"))
    neutral = 0.0 if kind in ("Add", "Sub") else 1.0
    shape: tuple[int, ...] = m.pick(((), (1,), (x.channels, 1, 1), (1, x.channels, 1, 1)))
    value = np.full(shape, neutral) if m.coin() else m.rng.uniform(0.5, 1.5, shape)
    pair = [x.name, m.constant(value)]
    if kind in ("Add", "Mul") and m.coin():
        pair.reverse()
    return Map(m.op(kind, *pair), x.channels, x.level)


def pool(m: Model) -> Map:
    x = m.map()
    kind = m.pick(("MaxPool", "AveragePool"))
    if not m.small_enough(x) or not isinstance(x.level, int) or m.coin():
        extra: dict[str, Any] = {"count_include_pad": m.pick((0, 1))} if kind == "AveragePool" else {}
        return Map(m.op(kind, x.name, kernel_shape=[3, 3], pads=[1] * 4, strides=[1, 1], **extra), x.channels, x.level)
    if m.coin():
        return Map(m.op(kind, x.name, kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2]), x.channels, x.level + 1)
    return Map(m.op(kind, x.name, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1), x.channels, x.level + 1)


def adaptive_pool(m: Model) -> Map:
    x = m.map()
    bins = (m.pick((1, 1, 2, 3, 6)), m.pick((1, 2, 3, 6)))
    if not isinstance(x.level, int):
        return activation(m)
    return Map(m.op("AdaptiveAvgPool2d", x.name, domain=SEGC, output_size=list(bins)), x.channels, bins)


def squeeze_excite(m: Model) -> Map:
    x = m.map()
    if m.coin():
        mean = m.op("GlobalAveragePool", x.name)
    else:
        axes: dict[str, Any] = {"axes": [2, 3]} if m.opset < 18 else {}
        mean = m.op("ReduceMean", x.name, *([] if axes else [m.ints(2, 3)]), keepdims=1, **axes)
    gate = m.op("Conv", mean, m.weight(x.channels, x.channels, 1, 1), kernel_shape=[1, 1])
    return Map(m.op("Mul", x.name, m.op("Sigmoid", gate)), x.channels, x.level)


def residual(m: Model) -> Map:
    """The sum of two maps, the second one brought to the size and channels of the first."""
    x, y = m.map(), m.map()
    other = _channels(m, _resized(m, y, x) if y.level != x.level else y.name, y.channels, x.channels)
    kind = m.pick(("Add", "Add", "Mul", "Max"))
    return Map(m.op(kind, x.name, other), x.channels, x.level)


def concat(m: Model) -> Map:
    x, y = m.map(), m.map()
    parts = [x.name, y.name if y.level == x.level else _resized(m, y, x)]
    whole = m.op("Concat", *parts, axis=m.pick((1, -3)))
    channels = x.channels + y.channels
    return Map(_channels(m, whole, channels, 4), 4, x.level) if channels > 8 else Map(whole, channels, x.level)


def nested_concat(m: Model) -> Map:
    x = m.map()
    inner = m.op("Concat", x.name, x.name, axis=1)
    whole = m.op("Concat", inner, x.name, axis=1)
    return Map(_channels(m, whole, 3 * x.channels, 4), 4, x.level)


def _channels(m: Model, name: str, has: int, wants: int) -> str:
    return name if has == wants else m.op("Conv", name, m.weight(wants, has, 1, 1), kernel_shape=[1, 1])


def _resized(m: Model, x: Map, like: Map) -> str:
    """x at the size of `like`, which is computed from shapes."""
    mode = m.pick(("linear", "linear", "nearest"))
    attrs: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": m.pick(("half_pixel", "align_corners"))}
    if mode == "nearest":
        attrs = {"mode": mode, "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    if isinstance(like.level, tuple) and m.coin():
        size = m.ints(*like.level)
    else:
        size = m.op("Concat", m.side(like, 2), m.side(like, 3), axis=0)
    if m.opset >= 18 and m.coin():
        return m.op("Resize", x.name, "", "", size, axes=[2, 3], **attrs)
    outer = m.op("Slice", m.op("Shape", x.name), m.ints(0), m.ints(2))
    return m.op("Resize", x.name, "", "", m.op("Concat", outer, size, axis=0), **attrs)


def upsample_down(m: Model) -> Map:
    """Twice the size by scales, then back by pooling."""
    x = m.map()
    mode = m.pick(("linear", "nearest"))
    large = m.op("Resize", x.name, "", m.constant([1, 1, 2, 2]), mode=mode)
    return Map(m.op("AveragePool", large, kernel_shape=[2, 2], strides=[2, 2]), x.channels, x.level)


def attention(m: Model) -> Map:
    """Pixels as tokens: Q K^T, softmax, V; sizes go through Shape."""
    x = m.map()
    if not isinstance(x.level, int) or x.level < 1:
        return squeeze_excite(m)
    tokens = m.op("Transpose", m.op("Reshape", x.name, m.ints(0, x.channels, -1)), perm=[0, 2, 1])
    q, k, v = (m.op("MatMul", tokens, m.weight(x.channels, x.channels)) for _ in range(3))
    scores = m.op("Mul", m.op("MatMul", q, m.op("Transpose", k, perm=[0, 2, 1])), m.constant(0.5))
    mixed = m.op("MatMul", m.op("Softmax", scores, axis=m.pick((-1, 2))), v)
    back = m.op("Transpose", mixed, perm=[0, 2, 1])
    shape = m.op("Concat", m.side(x, 0), m.ints(x.channels), m.side(x, 2), m.side(x, 3), axis=0)
    return Map(m.op("Reshape", back, shape), x.channels, x.level)


def linear(m: Model) -> Map:
    x = m.map()
    out = m.pick((2, 4))
    last = m.op("Transpose", x.name, perm=[0, 2, 3, 1])
    y = m.op("Add", m.op("MatMul", last, m.weight(x.channels, out)), m.weight(out, scale=0.5))
    return Map(m.op("Transpose", y, perm=[0, 3, 1, 2]), out, x.level)


def there_and_back(m: Model) -> Map:
    """Movements that cancel, or nearly."""
    x = m.map()
    kind = m.pick(("transpose", "reshape", "squeeze", "cast", "identity", "pad", "slice", "split", "expand", "dropout"))
    y = x.name
    if kind == "transpose":
        y = m.op("Transpose", m.op("Transpose", y, perm=[0, 2, 3, 1]), perm=m.pick(([0, 3, 1, 2], [0, 3, 2, 1])))
        y = y if m.nodes[-1].attribute[0].ints[2] == 1 else m.op("Transpose", y, perm=[0, 1, 3, 2])
    elif kind == "reshape":
        y = m.op("Reshape", m.op("Reshape", y, m.ints(0, 0, -1)), m.op("Shape", x.name))
    elif kind == "squeeze":
        y = m.op("Squeeze", m.op("Unsqueeze", y, m.ints(0)), m.ints(0))
    elif kind == "cast":
        y = m.op("Cast", m.op("Cast", y, to=m.pick((1, 11))), to=1)
    elif kind == "identity":
        y = m.op("Identity", y)
    elif kind == "dropout":
        y = m.op("Dropout", y)
    elif kind == "pad":
        grown = m.op("Pad", m.op("Pad", y, m.ints(0, 0, 1, 0, 0, 0, 1, 0)), m.ints(0, 0, 0, 1, 0, 0, 0, 1))
        y = m.op("Slice", grown, m.ints(1, 1), m.ints(-1, -1), m.ints(2, 3))
    elif kind == "slice":
        y = m.op("Slice", m.op("Slice", y, m.ints(0), m.ints(END), m.ints(2)), m.ints(0), m.ints(END), m.ints(3))
    elif kind == "split" and x.channels % 2 == 0:
        half = x.channels // 2
        first = m.op("Split", y, m.ints(half, half), outputs=2, axis=1)
        y = m.op("Concat", *m.pick(([first, f"{first}_1"], [f"{first}_1", first])), axis=1)
    elif kind == "expand":
        y = m.op("Expand", y, m.op("Shape", x.name))
    return Map(y, x.channels, x.level)


def channel_slice(m: Model) -> Map:
    """Slices along channels, twice: they merge."""
    x = m.map()
    if x.channels < 4:
        return activation(m)
    once = m.op("Slice", x.name, m.ints(0), m.ints(x.channels - 1), m.ints(1))
    return Map(m.op("Slice", once, m.ints(1), m.ints(END), m.ints(1)), x.channels - 2, x.level)


def depth_to_space(m: Model) -> Map:
    x = m.map()
    if x.channels % 4:
        return conv(m)
    return Map(m.op("SpaceToDepth", m.op("DepthToSpace", x.name, blocksize=2), blocksize=2), x.channels, x.level)


def softmax(m: Model) -> Map:
    x = m.map()
    return Map(m.op("Softmax", x.name, axis=m.pick((1, -1))), x.channels, x.level)


def twin(m: Model) -> Map:
    """The same node twice, and their sum: common subexpressions."""
    x = m.map()
    weight = m.weight(4, x.channels, 1, 1)
    pair = [m.op("Conv", x.name, weight, kernel_shape=[1, 1]) for _ in range(2)]
    return Map(m.op("Add", *(m.op("Relu", p) for p in pair)), 4, x.level)


def masked(m: Model) -> Map:
    """Where over a comparison, and a constant made from a shape."""
    x = m.map()
    zeros = m.op("ConstantOfShape", m.op("Shape", x.name), value=onnx.numpy_helper.from_array(np.zeros(1, np.float32)))
    return Map(m.op("Where", m.op("Greater", x.name, zeros), x.name, m.constant(-0.25)), x.channels, x.level)


RULES: tuple[Rule, ...] = (
    conv, conv, conv, conv_transpose, batch_norm, batch_norm, instance_norm, group_norm, layer_norm, activation,
    activation, arithmetic, arithmetic, pool, adaptive_pool, squeeze_excite, residual, residual, concat, nested_concat,
    upsample_down, attention, linear, there_and_back, there_and_back, channel_slice, depth_to_space, softmax, twin,
    masked,
)  # fmt: skip
HEADS = ("plain", "plain", "upsampled", "softmax", "sigmoid", "scaled")


def models(most: int = 16) -> st.SearchStrategy[onnx.ModelProto]:
    """Models x (N, 3, H, W) float32 -> y (N, K, ?, ?) with K of 1 to 5 classes; sizes are symbols.

    A seed decides all but the number of building blocks, which is what shrinks: models of one seed begin alike.
    """
    return st.builds(model, st.integers(0, 2**32 - 1), st.integers(2, most))


def model(seed: int, blocks: int) -> onnx.ModelProto:
    """The model of a seed with so many building blocks."""
    m = Model(seed)
    m.maps.append(Map("x", 3, 0))
    for _ in range(blocks):
        m.maps.append(m.pick(RULES)(m))
    classes = m.pick((1, 2, 3, 5))
    last = m.maps[-1]
    logits = Map(
        m.op("Conv", last.name, m.weight(classes, last.channels, 1, 1), kernel_shape=[1, 1]), classes, last.level
    )
    head = m.pick(HEADS)
    if head in ("upsampled", "scaled"):
        logits = Map(_resized(m, logits, m.maps[0]), classes, 0)
    if head == "softmax":
        logits = Map(m.op("Softmax", logits.name, axis=1), classes, logits.level)
    if head == "sigmoid":
        logits = Map(m.op("Sigmoid", logits.name), classes, logits.level)
    if head == "scaled":
        logits = Map(m.op("Mul", logits.name, m.constant(2.0)), classes, logits.level)
    return finished(m, logits)


def finished(m: Model, logits: Map) -> onnx.ModelProto:
    m.nodes[-1].output[0] = "y"
    float_ = onnx.TensorProto.FLOAT
    sizes: list[Any] = list(logits.level) if isinstance(logits.level, tuple) else [None, None]
    graph = onnx.helper.make_graph(
        m.nodes, "g",
        [onnx.helper.make_tensor_value_info("x", float_, ["N", 3, "H", "W"])],
        [onnx.helper.make_tensor_value_info("y", float_, ["N", logits.channels, *sizes])],
        initializer=m.constants,
    )  # fmt: skip
    opsets = [onnx.helper.make_opsetid("", m.opset), onnx.helper.make_opsetid(SEGC, 1)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9)
