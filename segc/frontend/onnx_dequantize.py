"""A quantized ONNX file in float32: what its numbers stand for, without their rounding.

A quantized tensor becomes the real values that it stands for. Weights become (q - zero point) * scale, exactly as
DequantizeLinear computes them. Quantizing an activation becomes a clip to the range of its integers: files fold a ReLU
into that range, so the clip stays while the rounding goes. Where the range is computed from the values themselves
(DynamicQuantizeLinear), nothing is clipped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper

from segc.errors import Code, SourceError
from segc.frontend.onnx_edit import FileGraph, attribute

QUANTIZED = {
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger", "QLinearConv",
    "QLinearMatMul",
}  # fmt: skip
_MOVES = {
    "Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Gather", "Split", "Concat",
    "MaxPool", "Expand", "Tile", "DepthToSpace", "SpaceToDepth",
}  # fmt: skip
_FLOAT = onnx.TensorProto.FLOAT


class _Cannot(Exception):  # noqa: N818 - becomes a SourceError that names the node
    """Why a node has no form in floats."""


def is_quantized(model: onnx.ModelProto) -> bool:
    """Whether the model computes with integers that stand for reals."""
    return any(node.op_type in QUANTIZED and node.domain in ("", "ai.onnx") for node in model.graph.node)


def dequantize(graph: FileGraph, path: Path) -> None:
    """Rewrite the graph in place. Raises SourceError, with the nodes that have no form in floats."""
    _Rewriting(graph, path).run()


class _Rewriting:
    def __init__(self, graph: FileGraph, path: Path) -> None:
        self.graph, self.path = graph, path
        self.real: set[str] = set()  # tensors that were integers and now hold what those stood for
        self.made: list[onnx.NodeProto] = []

    def run(self) -> None:
        """Node by node, in order."""
        failed = []
        nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in self.graph.graph.node]
        for node in nodes:
            try:
                self._rewrite(node)
            except _Cannot as why:
                failed.append(f"{node.op_type} '{node.name or node.output[0]}': {why}")
        if failed:
            raise SourceError(
                f"'{self.path}' cannot be dequantized", code=Code.DEQUANTIZE, because=failed, so="omit --dequantize"
            )
        del self.graph.graph.node[:]
        self.graph.graph.node.extend(self.made)
        self.graph.forget({name for node in self.made for name in node.output})
        self.graph.refresh()

    def _rewrite(self, node: onnx.NodeProto) -> None:
        handler = getattr(self, f"_{node.op_type}", None) if node.op_type in QUANTIZED else None
        if handler is not None and node.domain in ("", "ai.onnx"):
            return handler(node)  # type: ignore[no-any-return]
        if self.real.intersection(node.input):
            if node.op_type == "Cast" and attribute(node, "to") == _FLOAT:
                return self._put("Identity", [node.input[0]], node.output[0])
            if node.op_type not in _MOVES:
                raise _Cannot("it computes with the integers themselves")
            self.real.update(name for name in node.output if name)
        self.made.append(node)

    def _put(self, op: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self.made.append(onnx.helper.make_node(op, inputs, [output], name=f"{op}/{output}", **attributes))

    def _constant(self, name: str, what: str) -> np.ndarray:
        values = self.graph.constant(name)
        if values is None:
            raise _Cannot(f"its {what} is computed at run time")
        return values

    def _zero(self, node: onnx.NodeProto, at: int, otherwise: type = np.uint8) -> np.ndarray:
        """A zero point; its type is that of the integers."""
        if len(node.input) <= at or not node.input[at]:
            return np.zeros((), otherwise)
        return self._constant(node.input[at], "zero point")

    def _weight(self, name: str, scale: np.ndarray, zero: np.ndarray, axis: int) -> np.ndarray:
        """What a constant stands for, as DequantizeLinear computes it."""
        values = self._constant(name, "weight")
        if scale.size > 1 and (scale.ndim != 1 or axis >= values.ndim or values.shape[axis] != scale.size):
            raise _Cannot("it has a scale for each block")
        apart = values.astype(np.float32) - _along(zero.astype(np.float32), values.ndim, axis)
        return np.asarray(apart * _along(scale.astype(np.float32), values.ndim, axis), np.float32)

    def _clip(self, x: str, output: str, scale: np.ndarray, zero: np.ndarray) -> None:
        """`x` in the range of integers of the zero point's type."""
        if zero.dtype.kind not in "iu" or scale.size != 1 or zero.size != 1:
            raise _Cannot("it quantizes values in several ways, or not to integers")
        limits, step = np.iinfo(zero.dtype), np.float32(scale.item())
        ends = [(end - int(zero.item())) * step for end in (limits.min, limits.max)]
        bounds = [
            self.graph.constant_named(f"{output}_{name}", np.array(value, np.float32))
            for name, value in zip(("least", "most"), ends, strict=True)
        ]
        if self.graph.opset < 11:
            raise _Cannot("opset 10 clips by attributes")
        self._put("Clip", [x, *bounds], output)
        self.real.add(output)

    # ---- one method for each op

    def _QuantizeLinear(self, node: onnx.NodeProto) -> None:  # noqa: N802 - the op's name
        kind = attribute(node, "output_dtype", 0)
        otherwise = onnx.helper.tensor_dtype_to_np_dtype(kind).type if kind else np.uint8
        if attribute(node, "block_size", 0):
            raise _Cannot("it has a scale for each block")
        scale, zero = self._constant(node.input[1], "scale"), self._zero(node, 2, otherwise)
        self._clip(node.input[0], node.output[0], scale, zero)

    def _DequantizeLinear(self, node: onnx.NodeProto) -> None:  # noqa: N802
        if node.input[0] in self.real:
            return self._put("Identity", [node.input[0]], node.output[0])
        scale, zero = self._constant(node.input[1], "scale"), self._zero(node, 2)
        if self.graph.constant(node.input[0]) is not None:
            values = self._weight(node.input[0], scale, zero, int(attribute(node, "axis", 1)))
            return self._put(
                "Identity", [self.graph.constant_named(f"{node.output[0]}_values", values)], node.output[0]
            )
        raise _Cannot("its integers come from the outside")

    def _DynamicQuantizeLinear(self, node: onnx.NodeProto) -> None:  # noqa: N802
        self._put("Identity", [node.input[0]], node.output[0])
        self.real.add(node.output[0])
        values: tuple[np.ndarray, ...] = (np.array(1, np.float32), np.array(0, np.uint8))
        for name, value in zip(node.output[1:], values, strict=False):
            if name:
                self._put("Identity", [self.graph.constant_named(f"{name}_value", value)], name)

    def _ConvInteger(self, node: onnx.NodeProto) -> None:  # noqa: N802
        self._require_real(node.input[0])
        one = np.ones((), np.float32)
        weight = self._weight(node.input[1], one, self._zero(node, 3), 0)
        made = onnx.helper.make_node("Conv", [node.input[0], self._held(node, weight)], list(node.output))
        made.name = node.name
        made.attribute.extend(node.attribute)
        self.made.append(made)
        self.real.add(node.output[0])

    def _MatMulInteger(self, node: onnx.NodeProto) -> None:  # noqa: N802
        self._require_real(node.input[0])
        right = node.input[1]
        if right not in self.real:
            values = self._constant(right, "second factor")
            zero = self._zero(node, 3).astype(np.float32)
            right = self._held(node, np.asarray(values.astype(np.float32) - zero, np.float32))
        self._put("MatMul", [node.input[0], right], node.output[0])
        self.real.add(node.output[0])

    def _QLinearConv(self, node: onnx.NodeProto) -> None:  # noqa: N802
        self._require_real(node.input[0])
        scale, by = self._constant(node.input[1], "scale"), self._constant(node.input[4], "scale")
        inputs = [node.input[0], self._held(node, self._weight(node.input[3], by, self._zero(node, 5), 0))]
        if len(node.input) > 8 and node.input[8]:
            bias = self._constant(node.input[8], "bias").astype(np.float32) * (scale * by).astype(np.float32)
            inputs.append(self.graph.constant_named(f"{node.output[0]}_bias", np.asarray(bias, np.float32)))
        made = onnx.helper.make_node("Conv", inputs, [self.graph.new(f"{node.output[0]}_sum")], name=node.name)
        made.attribute.extend(node.attribute)
        self.made.append(made)
        self._clip(made.output[0], node.output[0], self._constant(node.input[6], "scale"), self._zero(node, 7))

    def _QLinearMatMul(self, node: onnx.NodeProto) -> None:  # noqa: N802
        factors = []
        for at in (0, 3):
            name = node.input[at]
            if name not in self.real:
                values = self._constant(name, "factor")
                scale, zero = self._constant(node.input[at + 1], "scale"), self._zero(node, at + 2)
                name = self._held(node, self._weight(node.input[at], scale, zero, values.ndim - 1))
            factors.append(name)
        product = self.graph.new(f"{node.output[0]}_product")
        self._put("MatMul", factors, product)
        self._clip(product, node.output[0], self._constant(node.input[6], "scale"), self._zero(node, 7))

    def _held(self, node: onnx.NodeProto, values: np.ndarray) -> str:
        return self.graph.constant_named(f"{node.output[0]}_weight", values)

    def _require_real(self, name: str) -> None:
        if name not in self.real:
            raise _Cannot("its integers come from the outside")


def _along(values: np.ndarray, rank: int, axis: int) -> np.ndarray:
    """One number, or one for each place along an axis, so that it broadcasts."""
    return values.reshape(()) if values.size == 1 else values.reshape([-1 if at == axis else 1 for at in range(rank)])
