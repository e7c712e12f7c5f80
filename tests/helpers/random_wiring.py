"""Small valid ONNX models whose wiring is odd: inputs that a node reads twice, outputs that other nodes read, an input
that is an output, optional inputs that are left out or named "", pieces that overlap, results that nobody reads.

All maps are (1, C, H, W) with C of 4 or 8, so that nearly any op may follow any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper

T = TypeVar("T")
HEIGHT, WIDTH = 6, 8
END = 2**63 - 1


class _Wiring:
    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.maps: list[tuple[str, int]] = [("x", 8)]  # name, channels

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self.rng.integers(len(options)))]

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def ints(self, *values: int) -> str:
        return self.constant(values, np.int64)

    def op(self, kind: str, *inputs: str, outputs: Sequence[str] | int = 1, **attrs: Any) -> list[str]:
        if isinstance(outputs, int):
            outputs = [f"t{len(self.nodes)}" + f"_{i}" * (i > 0) for i in range(outputs)]
        self.nodes.append(onnx.helper.make_node(kind, list(inputs), list(outputs), **attrs))
        return list(outputs)

    def map(self, channels: int | None = None) -> tuple[str, int]:
        fitting = [m for m in self.maps if channels in (None, m[1])]
        return self.pick([*fitting, fitting[-1], fitting[-1]])

    def keep(self, name: str, channels: int) -> None:
        self.maps.append((name, channels))

    def weight(self, *shape: int) -> str:
        if shape not in self.known or self.pick((False, True)):
            self.known[shape] = self.constant(self.rng.standard_normal(shape) / 4)
        return self.known[shape]  # weights are shared too

    known: dict[tuple[int, ...], str]


def _unary(w: _Wiring) -> None:
    x, c = w.map()
    kind = w.pick(("Relu", "Sigmoid", "Tanh", "Neg", "Abs", "Identity", "Dropout", "HardSwish", "Elu", "Softmax"))
    attrs = {"axis": 1} if kind == "Softmax" else {}
    w.keep(w.op(kind, x, **attrs)[0], c)


def _clip(w: _Wiring) -> None:
    x, c = w.map()
    low, high = w.constant(0.0), w.constant(6.0)
    w.keep(w.op("Clip", x, *w.pick(((low, high), ("", high), (low,), (low, ""), (), ("", ""))))[0], c)


def _binary(w: _Wiring) -> None:
    x, c = w.map()
    y = w.pick((x, w.map(c)[0], w.constant(w.pick((0.0, 1.0, 0.5))), w.weight(c, 1, 1), w.weight(1, c, 1, 1)))
    pair = [x, y] if w.pick((True, False)) else [y, x]
    w.keep(w.op(w.pick(("Add", "Mul", "Sub", "Max", "Min", "Add", "Mul")), *pair)[0], c)


def _variadic(w: _Wiring) -> None:
    x, c = w.map()
    w.keep(w.op(w.pick(("Sum", "Max", "Mean")), *(w.pick((x, w.map(c)[0])) for _ in range(w.pick((1, 2, 3)))))[0], c)


def _conv(w: _Wiring) -> None:
    x, c = w.map()
    out, kernel = w.pick((4, 8)), w.pick((1, 3))
    bias = w.pick(((), ("",), (w.weight(out),)))
    depthwise = out == c and w.pick((True, False, False))
    attrs = {"kernel_shape": [kernel] * 2} if w.pick((True, False)) else {}
    source = x
    if kernel == 3 and w.pick((True, False)):
        source = w.op("Pad", x, w.ints(0, 0, 1, 1, 0, 0, 1, 1), *w.pick(((), ("",), (w.constant(0.0),))))[0]
        attrs["pads"] = [0] * 4
    else:
        attrs["pads"] = [kernel // 2] * 4
    group = c if depthwise else 1
    w.keep(w.op("Conv", source, w.weight(out, c // group, kernel, kernel), *bias, group=group, **attrs)[0], out)


def _norm(w: _Wiring) -> None:
    x, c = w.map()
    if w.pick((True, False)):
        w.keep(w.op("BatchNormalization", x, *[w.weight(c)] * 3, w.constant(w.rng.uniform(0.5, 2, c)))[0], c)
    else:
        w.keep(w.op("InstanceNormalization", x, *[w.weight(c)] * 2, epsilon=0.1)[0], c)


def _pieces(w: _Wiring) -> list[str]:
    """Some halves of some maps of eight channels, by Split or by Slice."""
    found: list[str] = []
    for _ in range(w.pick((1, 2))):
        x = w.map(8)[0]
        axis = w.pick((1, -3))
        if w.pick((True, False)):
            sizes = w.pick(((), (w.ints(4, 4),), ("",)))
            extra = {} if sizes and sizes[0] else {"num_outputs": 2}
            found += w.op("Split", x, *sizes, outputs=2, axis=axis, **extra)
        else:
            for start, end in ((0, 4), (4, w.pick((8, END)))):
                steps = w.pick(((), ("",), (w.ints(1),)))
                found += w.op("Slice", x, w.ints(start), w.ints(end), w.ints(axis), *steps)
    return found


def _cut(w: _Wiring) -> None:
    pieces = _pieces(w)
    kept = pieces[: w.pick((1, 2, len(pieces)))]
    for piece in kept:
        w.keep(piece, 4)


def _join(w: _Wiring) -> None:
    """A Concat of whatever there is, often the same twice, brought back to eight channels."""
    pieces = [(piece, 4) for piece in _pieces(w)] if w.pick((True, False)) else []
    chosen = [w.pick([*pieces, *pieces, *w.maps]) for _ in range(w.pick((1, 2, 2, 3)))]
    whole = w.op("Concat", *(name for name, _ in chosen), axis=w.pick((1, -3)))[0]
    total = sum(c for _, c in chosen)
    if w.pick((True, False)):
        whole = w.op("Concat", whole, *w.pick(((whole,), (w.map(8)[0],))), axis=1)[0]
        total = sum(c for _, c in chosen) * 2 if w.nodes[-1].input[1] == w.nodes[-1].input[0] else total + 8
    w.keep(w.op("Conv", whole, w.weight(8, total, 1, 1))[0], 8)


def _resize(w: _Wiring) -> None:
    x, c = w.map()
    mode = {"mode": w.pick(("linear", "nearest"))}
    how = w.pick(("scales", "sizes", "shape", "up"))
    if how == "scales":
        y = w.op("Resize", x, "", w.constant([1, 1, 1, 1]), **mode)[0]
    elif how == "sizes":
        y = w.op("Resize", x, *w.pick((("", ""), (w.constant(np.zeros(0)), w.constant(np.zeros(0))))),
                 w.ints(1, c, HEIGHT, WIDTH), **mode)[0]  # fmt: skip
    elif how == "shape":
        y = w.op("Resize", x, "", "", w.op("Shape", x)[0], **mode)[0]
    else:
        large = w.op("Resize", x, "", w.constant([1, 1, 2, 2]), **mode)[0]
        y = w.op(w.pick(("AveragePool", "MaxPool")), large, kernel_shape=[2, 2], strides=[2, 2])[0]
    w.keep(y, c)


def _pool(w: _Wiring) -> None:
    x, c = w.map()
    kind = w.pick(("MaxPool", "AveragePool"))
    outputs = 2 if kind == "MaxPool" and w.pick((True, False, False)) else 1
    w.keep(w.op(kind, x, outputs=outputs, kernel_shape=[3, 3], pads=[1] * 4)[0], c)


def _movement(w: _Wiring) -> None:
    x, c = w.map()
    kind = w.pick(("transpose", "reshape", "squeeze", "expand", "gate", "where", "cast", "matmul", "reduce"))
    y = x
    if kind == "transpose":
        y = w.op("Transpose", w.op("Transpose", x, perm=[0, 2, 3, 1])[0], perm=[0, 3, 1, 2])[0]
    elif kind == "reshape":
        flat = w.op("Reshape", x, w.ints(0, c, -1))[0]
        y = w.op("Reshape", flat, w.pick((w.ints(1, c, HEIGHT, WIDTH), w.op("Shape", x)[0])))[0]
    elif kind == "squeeze":
        squeezed = w.op("Squeeze", x, *w.pick(((), (w.ints(0),))))[0]
        y = w.op("Unsqueeze", squeezed, w.ints(0))[0]
    elif kind == "expand":
        y = w.op("Expand", x, w.pick((w.ints(1, 1, 1, 1), w.ints(1, c, HEIGHT, WIDTH), w.op("Shape", x)[0])))[0]
    elif kind == "gate":
        y = w.op("Mul", w.op("GlobalAveragePool", x)[0], x)[0]
    elif kind == "where":
        y = w.op("Where", w.op("Greater", x, x)[0], x, w.pick((x, w.map(c)[0])))[0]
    elif kind == "cast":
        y = w.op("Cast", w.op("Cast", x, to=w.pick((1, 11, 10)))[0], to=1)[0]
    elif kind == "matmul":
        last = w.op("Transpose", x, perm=[0, 2, 3, 1])[0]
        y = w.op("MatMul", last, w.weight(c, c))[0]
        y = w.op("Transpose", w.op("Add", *w.pick(((y, y), (y, w.weight(c)), (w.weight(c), y))))[0], perm=[0, 3, 1, 2])[
            0
        ]
    else:
        axes = w.pick(((w.ints(2, 3),), (w.ints(-1, -2),)))
        y = w.op("Add", x, w.op("ReduceMean", x, *axes, keepdims=1)[0])[0]
    w.keep(y, c)


RULES = (_unary, _unary, _clip, _binary, _binary, _variadic, _conv, _conv, _norm, _cut, _join, _join, _resize, _pool,
         _movement, _movement)  # fmt: skip


def wired(seed: int) -> onnx.ModelProto:
    """The model of a seed: x float32 (1, 8, H, W) to one to three outputs, of which all but the first are read too."""
    w = _Wiring(seed)
    w.known = {}
    for _ in range(int(w.rng.integers(2, 9))):
        w.pick(RULES)(w)
    outputs = [w.maps[-1]]
    for _ in range(w.pick((0, 0, 1, 2))):
        more = w.map()
        if more[0] != "x" and more[0] not in [o[0] for o in outputs]:
            outputs.append(more)
    if outputs[0][0] == "x":
        outputs = [(w.op("Identity", "x")[0], 8)]
    tensor = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        w.nodes, "wired", [onnx.helper.make_tensor_value_info("x", tensor, [1, 8, HEIGHT, WIDTH])],
        [onnx.helper.make_tensor_value_info(name, tensor, [1, c, HEIGHT, WIDTH]) for name, c in outputs], w.constants,
    )  # fmt: skip
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
