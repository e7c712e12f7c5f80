"""Random models of one to a few ops, with the forms that runtimes get wrong: ranks, layouts, repeated and late reads.

Where tests/helpers/random_models.py writes networks, this writes what stands between two nodes of one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper

OPSET = 17
LEAST, MOST = 2, 9  # of a side
SHARING = 20_000  # from this seed on, nodes share weights; a model stays the same for its seed


class Model:
    """Nodes so far, and the float tensors that they give: name -> shape."""

    def __init__(self, seed: int, batch: int | None = None) -> None:
        self.rng = np.random.default_rng(seed)
        self.sharing = np.random.default_rng([seed, 1]) if seed >= SHARING else None
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        channels = int(self.rng.choice([1, 3, 8, 16, 19, 32]))
        drawn = int(self.rng.integers(1, 3))
        self.shape = (batch or drawn, channels, *map(int, self.rng.integers(4, MOST, 2)))
        self.values: dict[str, tuple[int, ...]] = {"x": self.shape}

    def const(self, array: Any) -> str:
        name = f"k{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(np.asarray(array), name))
        return name

    def floats(self, *shape: int) -> str:
        values = self.rng.standard_normal(shape).astype(np.float32)
        same = [k.name for k in self.constants if tuple(k.dims) == shape and k.data_type == onnx.TensorProto.FLOAT]
        if self.sharing is not None and same and self.sharing.random() < 0.7:
            return str(self.sharing.choice(same))
        return self.const(values)

    def op(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def give(self, shape: tuple[int, ...], op: str, *inputs: str, **attributes: Any) -> str:
        """A node whose result is a float tensor of this shape that later nodes may read."""
        name = self.op(op, *inputs, **attributes)
        self.values[name] = tuple(shape)
        return name

    def pick(self, rank: int | None = 4) -> tuple[str, tuple[int, ...]]:
        """A float tensor, the newest more often than the others."""
        found = [(n, s) for n, s in self.values.items() if rank is None or len(s) == rank]
        weights = np.arange(1, len(found) + 1, dtype=float) ** 2
        return found[int(self.rng.choice(len(found), p=weights / weights.sum()))]

    def same(self, shape: tuple[int, ...]) -> list[str]:
        """The tensors of a shape."""
        return [n for n, s in self.values.items() if s == shape]

    def any_of(self, *options: Any) -> Any:
        return options[int(self.rng.integers(len(options)))]


def conv(m: Model) -> None:
    """Any group, with a bias or without, of a kernel that fits."""
    x, (n, c, h, w) = m.pick()
    side = m.any_of(1, 3)
    group = m.any_of(1, 1, c, 2) if c % 2 == 0 else m.any_of(1, c)
    filters = c * m.any_of(1, 1, 2) if group > 1 else m.any_of(c, 8, 16, 32)
    stride, dilation = m.any_of(1, 1, 2), m.any_of(1, 1, 2)
    pad = (side // 2) * dilation
    inputs = [x, m.floats(filters, c // group, side, side)] + ([m.floats(filters)] if m.any_of(True, False) else [])
    sides = tuple((size + 2 * pad - dilation * (side - 1) - 1) // stride + 1 for size in (h, w))
    attributes = {"group": group, "strides": [stride] * 2, "dilations": [dilation] * 2, "pads": [pad] * 4}
    m.give((n, filters, *sides), "Conv", *inputs, **attributes)
    if m.sharing is not None and m.sharing.random() < 0.5:  # a second reader of the weights
        other = str(m.sharing.choice(m.same((n, c, h, w))))
        m.give((n, filters, *sides), "Conv", other, *inputs[1:], **attributes)


def unary(m: Model) -> None:
    x, shape = m.pick(None)
    op = m.any_of(
        "Relu", "Relu", "Sigmoid", "Tanh", "Neg", "Abs", "Erf", "HardSwish", "HardSigmoid", "LeakyRelu", "Elu",
        "Softplus", "Floor", "Sign", "Identity",
    )  # fmt: skip
    m.give(shape, op, x)


def clip(m: Model) -> None:
    x, shape = m.pick(None)
    m.give(shape, "Clip", x, m.const(np.float32(m.any_of(0, -1))), m.const(np.float32(m.any_of(6, 1))))


def broadcast_constant(m: Model, shape: tuple[int, ...]) -> str:
    """A constant that broadcasts to a shape: some sizes are 1, leading axes are left out."""
    kept = [size if m.rng.random() < 0.5 else 1 for size in shape]
    values = m.rng.uniform(0.5, 2, kept[int(m.rng.integers(0, len(shape) + 1)) :]) * m.any_of(1, -1)
    return m.const(values.astype(np.float32))


def computed(m: Model, x: str, shape: tuple[int, ...]) -> str:
    """A computed tensor that broadcasts to a shape: a reduction, with its axes or without."""
    axes = sorted({int(a) for a in m.rng.integers(0, len(shape), 2)})
    if m.any_of(True, False):
        return m.op("ReduceMean", x, axes=axes, keepdims=1)
    leading = list(range(axes[0] + 1))
    return m.op("ReduceMax", x, axes=leading, keepdims=0)


def second(m: Model, x: str, shape: tuple[int, ...]) -> str:
    kind = m.any_of("constant", "same", "same", "itself", "computed")
    if kind == "computed" and len(shape) > 1:
        return computed(m, x, shape)
    if kind == "constant":
        return broadcast_constant(m, shape)
    return x if kind == "itself" else m.any_of(*m.same(shape))


def binary(m: Model) -> None:
    x, shape = m.pick(None)
    op = m.any_of("Add", "Add", "Add", "Sub", "Mul")
    operands = [x, second(m, x, shape)]
    m.give(shape, op, *(operands[::-1] if m.any_of(True, False) else operands))


def chain(m: Model) -> None:
    """(Conv + a) + b and the like."""
    conv(m)
    for _ in range(2):
        binary(m)


def divide(m: Model) -> None:
    x, shape = m.pick(None)
    m.give(shape, "Div", x, broadcast_constant(m, shape))


def variadic(m: Model) -> None:
    x, shape = m.pick(None)
    others = [m.any_of(broadcast_constant(m, shape), *m.same(shape)) for _ in range(m.any_of(1, 1, 2, 3))]
    m.give(shape, m.any_of("Max", "Min", "Sum", "Mean"), x, *others)


def pool(m: Model) -> None:
    x, (n, c, h, w) = m.pick()
    if min(h, w) < LEAST + 1:
        return
    stride = m.any_of(1, 2)
    sides = tuple((size + 2 - 3) // stride + 1 for size in (h, w))
    attributes = {"kernel_shape": [3, 3], "strides": [stride] * 2, "pads": [1] * 4}
    if m.any_of(True, False):
        m.give((n, c, *sides), "MaxPool", x, **attributes)
    else:
        m.give((n, c, *sides), "AveragePool", x, **attributes, count_include_pad=m.any_of(0, 1))


def global_pool(m: Model) -> None:
    x, (n, c, _, _) = m.pick()
    m.give((n, c, 1, 1), "GlobalAveragePool", x)


def reduce(m: Model) -> None:
    x, shape = m.pick(None)
    axes = sorted({int(a) for a in m.rng.integers(0, len(shape), 2)})
    keep = m.any_of(0, 1)
    left = [1 if a in axes else s for a, s in enumerate(shape) if keep or a not in axes]
    if not left:
        return
    op = m.any_of("ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceL1")
    m.give(tuple(left), op, x, axes=[a - len(shape) if m.any_of(True, False) else a for a in axes], keepdims=keep)


def resize(m: Model) -> None:
    x, (n, c, h, w) = m.pick()
    mode, coordinates = m.any_of(
        ("linear", "half_pixel"), ("linear", "align_corners"), ("nearest", "asymmetric"), ("linear", "asymmetric"),
    )  # fmt: skip
    to = (n, c, h * 2, w + m.any_of(0, 3))
    if min(*to[2:], h, w) < LEAST or max(to[2:]) > 3 * MOST:
        return
    attributes = {"mode": mode, "coordinate_transformation_mode": coordinates}
    if mode == "nearest":
        attributes["nearest_mode"] = "floor"
    m.give(to, "Resize", x, "", "", m.const(np.array(to)), **attributes)


def concat(m: Model) -> None:
    x, shape = m.pick(None)
    axis = int(m.rng.integers(len(shape)))
    parts = [x, *(m.any_of(*m.same(shape)) for _ in range(m.any_of(1, 1, 2)))]
    m.give((*shape[:axis], shape[axis] * len(parts), *shape[axis + 1 :]), "Concat", *parts, axis=axis)


def slices(m: Model) -> None:
    x, shape = m.pick(None)
    axis = int(m.rng.integers(len(shape)))
    if shape[axis] < LEAST:
        return
    start, step = int(m.rng.integers(0, shape[axis] - 1)), m.any_of(1, 1, 2)
    bounds = [m.const(np.array([value])) for value in (start, m.any_of(shape[axis], 2**40), axis, step)]
    m.give((*shape[:axis], -(-(shape[axis] - start) // step), *shape[axis + 1 :]), "Slice", x, *bounds)


def split(m: Model) -> None:
    x, shape = m.pick(None)
    axis = int(m.rng.integers(len(shape)))
    if shape[axis] < LEAST:
        return
    first = int(m.rng.integers(1, shape[axis]))
    names = [f"v{len(m.nodes)}a", f"v{len(m.nodes)}b"]
    sizes = (first, shape[axis] - first)
    m.nodes.append(onnx.helper.make_node("Split", [x, m.const(np.array(sizes))], names, axis=axis))
    for name, size in zip(names, sizes, strict=True):
        m.values[name] = (*shape[:axis], size, *shape[axis + 1 :])


def pad(m: Model) -> None:
    x, (n, c, h, w) = m.pick()
    top, left, bottom, right = (int(v) for v in m.rng.integers(0, 3, 4))
    mode = m.any_of("constant", "edge", "reflect") if min(h, w) > 2 else "constant"
    pads = m.const(np.array([0, 0, top, left, 0, 0, bottom, right]))
    m.give((n, c, h + top + bottom, w + left + right), "Pad", x, pads, mode=mode)


def transpose(m: Model) -> None:
    x, shape = m.pick(None)
    perm = [int(a) for a in m.rng.permutation(len(shape))]
    m.give(tuple(shape[a] for a in perm), "Transpose", x, perm=perm)


def flatten_sides(m: Model) -> None:
    """(N, C, H, W) to (N, C, HW): by a constant, or by a shape that is computed from the tensor's."""
    x, (n, c, h, w) = m.pick()
    kind = m.any_of("constant", "zeros", "shape", "slice")
    if kind in ("constant", "zeros"):
        to = m.const(np.array([n, c, h * w] if kind == "constant" else [0, 0, -1]))
    elif kind == "slice":
        head = m.op("Slice", m.op("Shape", x), m.const(np.array([0])), m.const(np.array([2])))
        to = m.op("Concat", head, m.const(np.array([-1])), axis=0)
    else:
        vector = m.any_of(True, False)
        shape = m.op("Shape", x)
        sizes = []
        for at in (0, 1):
            size = m.op("Gather", shape, m.const(np.array([at] if vector else at)), axis=0)
            sizes.append(size if vector else m.op("Unsqueeze", size, m.const(np.array([0]))))
        to = m.op("Concat", *sizes, m.const(np.array([h * w])), axis=0)
    m.give((n, c, h * w), "Reshape", x, to)


def expand(m: Model) -> None:
    """By sizes that are computed with: a multiple of a side."""
    x, (n, c, _, _) = m.pick()
    if m.values[x][2:] != (1, 1):
        x = m.op("GlobalAveragePool", x)
    sides = m.op("Slice", m.op("Shape", "x"), m.const(np.array([2])), m.const(np.array([4])))
    factor = m.any_of(np.array([1]), np.array(2), np.array([1, 2]))
    doubled = m.op(m.any_of("Mul", "Add"), sides, m.const(factor))
    op = m.nodes[-1].op_type
    to = m.op("Concat", m.const(np.array([n, c])), doubled, axis=0)
    h, w = (m.shape[2:] * factor if op == "Mul" else m.shape[2:] + factor) * np.ones(2, np.int64)
    m.give((n, c, int(h), int(w)), "Expand", x, to)


def matmul(m: Model) -> None:
    x, shape = m.pick(None)
    if len(shape) < 2 or shape[-1] > 200:
        return
    if m.any_of(True, False):
        m.give((*shape[:-1], 5), "MatMul", x, m.floats(shape[-1], 5))
    else:
        turned = m.op("Transpose", x, perm=[*range(len(shape) - 2), len(shape) - 1, len(shape) - 2])
        m.give((*shape[:-1], shape[-2]), "MatMul", x, turned)


def normalization(m: Model) -> None:
    x, shape = m.pick()
    c = shape[1]
    kind = m.any_of("BatchNormalization", "InstanceNormalization", "LayerNormalization")
    if kind == "LayerNormalization":
        m.give(shape, kind, x, m.floats(shape[-1]), m.floats(shape[-1]), axis=-1)
    elif kind == "InstanceNormalization":
        if shape[2] * shape[3] > 3:
            m.give(shape, kind, x, m.floats(c), m.floats(c))
    else:
        variance = m.const(m.rng.uniform(0.5, 2, c).astype(np.float32))
        m.give(shape, kind, x, m.floats(c), m.floats(c), m.floats(c), variance)


def softmax(m: Model) -> None:
    x, shape = m.pick(None)
    m.give(shape, "Softmax", x, axis=int(m.rng.integers(-1, len(shape))))


def where(m: Model) -> None:
    x, shape = m.pick(None)
    other = second(m, x, shape)
    above = m.op(m.any_of("Greater", "Less"), x, broadcast_constant(m, shape))
    m.give(shape, "Where", above, x, other)


def gather(m: Model) -> None:
    x, shape = m.pick(None)
    axis = int(m.rng.integers(len(shape)))
    at = m.rng.integers(-shape[axis], shape[axis], 3)
    m.give((*shape[:axis], 3, *shape[axis + 1 :]), "Gather", x, m.const(at), axis=axis)


def prelu(m: Model) -> None:
    x, shape = m.pick()
    m.give(shape, "PRelu", x, m.floats(shape[1], 1, 1))


def depth_to_space(m: Model) -> None:
    x, (n, c, h, w) = m.pick()
    if c % 4 == 0 and h * w < 200:
        m.give((n, c // 4, 2 * h, 2 * w), "DepthToSpace", x, blocksize=2, mode=m.any_of("CRD", "DCR"))


STEPS: tuple[Callable[[Model], None], ...] = (
    conv, conv, conv, unary, unary, clip, binary, binary, binary, chain, divide, variadic, pool, global_pool, reduce,
    resize, concat, slices, split, pad, transpose, flatten_sides, expand, matmul, normalization, softmax, where, gather,
    prelu, depth_to_space,
)  # fmt: skip


def model(seed: int, images_only: bool = False) -> onnx.ModelProto:
    """The model of a seed, of one to five steps, float32 (N, C, H, W) to one float32 output.

    images_only: one image, to an output (1, C, H, W), for runtimes that know no batch.
    """
    m = Model(seed, 1 if images_only else None)
    for _ in range(int(m.rng.integers(1, 6))):
        m.any_of(*STEPS)(m)
    values = list(m.values)[1:]
    if images_only:
        values = [name for name in values if len(m.values[name]) == 4 and m.values[name][0] == 1]
    last = values[-1] if values else m.give(m.shape, "Relu", "x")
    graph = onnx.helper.make_graph(
        m.nodes, "random", [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, list(m.shape))],
        [onnx.helper.make_tensor_value_info(last, onnx.TensorProto.FLOAT, list(m.values[last]))], m.constants,
    )  # fmt: skip
    made: onnx.ModelProto = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=8
    )
    return made
