"""Cost estimates: multiply-adds of nodes and bytes of tensors, at one image size.

They only decide whether a segment is worth the transfer of its boundary tensors. They are exact for convolutions and
matrix products, and estimates for other ops. What has no known size counts as 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import onnx_graphsurgeon as gs

from segc.graph import ir
from segc.graph.analysis.liveness import dtype_of

Shape = tuple[int, ...]


class Costs:
    """Work of nodes and bytes of tensors. shapes: by tensor name, for tensors without static shapes in the graph."""

    def __init__(self, shapes: Mapping[str, Shape]) -> None:
        self._shapes = shapes

    def shape(self, tensor: gs.Tensor) -> Shape | None:
        """The shape of a tensor; None when unknown."""
        return ir.static_shape(tensor) or self._shapes.get(tensor.name)

    def nbytes(self, tensor: gs.Tensor) -> int | None:
        """Bytes of a tensor; None when its shape or type is unknown."""
        shape, dtype = self.shape(tensor), dtype_of(tensor)
        return None if shape is None or dtype is None else math.prod(shape) * dtype.itemsize

    def elements(self, tensor: gs.Tensor) -> int:
        """Elements of a tensor; 0 when its shape is unknown."""
        shape = self.shape(tensor)
        return 0 if shape is None else math.prod(shape)

    def work(self, node: gs.Node) -> int:
        """Multiply-adds of a node. Ops other than products count one per element of their largest tensor."""
        output_elements = sum(self.elements(t) for t in node.outputs)
        if node.op in ("Conv", "ConvTranspose") and len(node.inputs) > 1:
            kernel = self.shape(node.inputs[1])
            per_cell = math.prod(kernel[1:]) if kernel is not None else 0
            return (output_elements if node.op == "Conv" else self.elements(node.inputs[0])) * per_cell
        if node.op in ("MatMul", "Gemm"):
            left = self.shape(node.inputs[0])
            return output_elements * (left[0 if node.attrs.get("transA") else -1] if left else 0)
        if node.op == "Einsum":
            return self._einsum(node)
        return max(output_elements, *(self.elements(t) for t in node.inputs), 0)

    def _einsum(self, node: gs.Node) -> int:
        equation = node.attrs["equation"]
        terms = (equation.decode() if isinstance(equation, bytes) else equation).replace(" ", "").split("->")[0]
        sizes: dict[str, int] = {}
        for letters, tensor in zip(terms.split(","), node.inputs, strict=True):
            sizes.update(zip(letters, self.shape(tensor) or (), strict=False))
        return math.prod(sizes.values()) if sizes else 0
