"""ONNX files as converters of some makers write them: small, seeded, and never as segc would."""

from __future__ import annotations

import math
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from segc.runtime.ort import outputs_of

TYPES = {TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16, TensorProto.BFLOAT16: ml_dtypes.bfloat16}


def saliency_net(kind: int = TensorProto.FLOAT16, *, keep_io: bool = True, backwards: bool = True) -> onnx.ModelProto:
    """A salient-object net in small: two side outputs, all after a Sigmoid, weights of this type, nodes backwards.

    Input (1, 3, 32, 48); outputs `side1` and `side2` at 1/2 and 1/4 size, and `out` of full size. keep_io: inputs and
    outputs are float32, with casts behind and before them, as the usual float16 converter makes them.
    """
    rng = np.random.default_rng(7)
    made: list[onnx.NodeProto] = []
    weights: list[TensorProto] = []

    def weight(name: str, *shape: int) -> str:
        values = (rng.standard_normal(shape) / math.sqrt(math.prod(shape[1:]))).astype(TYPES[kind])
        tensor = helper.make_tensor(name, kind, shape, values.tobytes(), raw=True)
        weights.append(tensor)
        return name

    def node(op: str, inputs: list[str], out: str, **attributes: object) -> str:
        made.append(helper.make_node(op, inputs, [out], name=f"{op}_{out}", **attributes))
        return out

    def conv(x: str, out: str, cin: int, cout: int, side: int = 3, stride: int = 1) -> str:
        inputs = [x, weight(f"{out}_w", cout, cin, side, side), weight(f"{out}_b", cout)]
        return node("Conv", inputs, out, pads=[side // 2] * 4, strides=[stride] * 2, kernel_shape=[side] * 2)

    def grown(x: str, out: str, by: float) -> str:
        name = f"{out}_scales"
        weights.append(numpy_helper.from_array(np.array([1, 1, by, by], np.float32), name))
        return node("Resize", [x, "", name], out, mode="linear", coordinate_transformation_mode="half_pixel")

    x = node("Cast", ["image"], "image_in", to=kind) if keep_io else "image"
    a = node("Relu", [conv(x, "a0", 3, 8, stride=2)], "a")
    b = node("Relu", [conv(a, "b0", 8, 12, stride=2)], "b")
    joined = node("Concat", [a, grown(b, "b_grown", 2.0)], "joined", axis=1)
    c = node("Relu", [conv(joined, "c0", 20, 8)], "c")
    heads = {"side1": conv(a, "h1", 8, 1), "side2": conv(b, "h2", 12, 1), "out": grown(conv(c, "h0", 8, 1), "h", 2.0)}
    sizes = {"side1": (16, 24), "side2": (8, 12), "out": (32, 48)}
    for name, head in heads.items():
        if keep_io:
            node("Cast", [node("Sigmoid", [head], f"{name}_p")], name, to=TensorProto.FLOAT)
        else:
            node("Sigmoid", [head], name)
    io = TensorProto.FLOAT if keep_io else kind
    outputs = [helper.make_tensor_value_info(name, io, [1, 1, *sizes[name]]) for name in ("side1", "side2", "out")]
    graph = helper.make_graph(
        made[::-1] if backwards else made, "saliency", [helper.make_tensor_value_info("image", io, [1, 3, 32, 48])],
        outputs, weights,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def in_float32() -> onnx.ModelProto:
    """The net of `saliency_net` with its float16 weights as float32, for ONNX Runtime: what the others must equal."""
    half, single = saliency_net(backwards=False), saliency_net(TensorProto.FLOAT, backwards=False)
    for ours, theirs in zip(single.graph.initializer, half.graph.initializer, strict=True):
        values = numpy_helper.to_array(theirs).astype(np.float32)
        ours.CopyFrom(numpy_helper.from_array(values, ours.name))
    return single


def saved(model: onnx.ModelProto, path: Path) -> Path:
    """Write the file as it is: ONNX's own checks would refuse its order."""
    path.write_bytes(model.SerializeToString())
    return path


def run(model: onnx.ModelProto | Path, **feeds: np.ndarray) -> dict[str, np.ndarray]:
    """All outputs in ONNX Runtime, without its rewrites."""
    content = model.read_bytes() if isinstance(model, Path) else model.SerializeToString()
    return outputs_of(content, feeds)
