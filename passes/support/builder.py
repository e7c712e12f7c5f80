"""Build the nodes that replace a node: names derived, types and shapes inferred, differences between opsets hidden."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.defs
import onnx.helper
import onnx.numpy_helper
import onnx.shape_inference
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter

from segc.passes.base import PassResult
from segc.passes.support.edit import Names, insert, small_constant

INT64 = np.dtype(np.int64)
Axis = tuple[gs.Tensor, int]  # the size of a tensor along an axis: static, or computed at run time


class RewriteNotApplicable(Exception):  # noqa: N818 - an answer, not a defect
    """A site that a rewrite does not cover. The message becomes the reason of a skip; the graph is not changed."""


class Builder:
    """Collects the nodes that replace one node. The graph does not change before `replace`."""

    def __init__(self, graph: gs.Graph, node: gs.Node, names: Names) -> None:
        self.graph, self.node, self.names = graph, node, names
        self.opset: int = graph.opset
        self.y: gs.Variable = node.outputs[0]
        self.nodes: list[gs.Node] = []

    def op(self, op: str, role: str, *inputs: gs.Tensor | None, **attrs: Any) -> gs.Variable:
        """Add a node with one output, named `<output of the old node>_<role>`. None stands for an omitted input."""
        return self.split(op, (role,), *inputs, **attrs)[0]

    def split(self, op: str, roles: Sequence[str], *inputs: gs.Tensor | None, **attrs: Any) -> list[gs.Variable]:
        """Add a node with one output for each role."""
        given = [gs.Variable.empty() if t is None else t for t in inputs]
        outputs = [self.names.variable(self.y, role, None, None) for role in roles]
        node = gs.Node(op, attrs=attrs, inputs=given, outputs=outputs)
        for output, (dtype, shape) in zip(outputs, inferred(node, self.opset), strict=True):
            output.dtype, output.shape = dtype, shape
        self.nodes.append(node)
        return outputs

    def const(self, role: str, values: Any, dtype: Any = None) -> gs.Constant:
        """A constant. Python ints become int64."""
        return self.names.constant(self.y, role, np.array(values, dtype))

    def replace(self, result: gs.Tensor) -> None:
        """Put the new nodes in the place of the old node; the producer of `result` then writes the old output."""
        if not self.nodes or not result.inputs or result.inputs[0] is not self.nodes[-1]:
            result = self.op("Identity", "same", result)
        last = self.nodes[-1]
        self.node.inputs.clear()
        self.node.outputs.clear()
        if self.y.shape is None:
            self.y.shape = result.shape
        if self.y.dtype is None:
            self.y.dtype = result.dtype
        last.outputs = [self.y if t is result else t for t in last.outputs]
        insert(self.graph, self.node, self.nodes)
        self.graph.nodes = [n for n in self.graph.nodes if n is not self.node]

    def discard(self) -> None:
        """Detach the nodes built so far, so that their inputs no longer list them as users."""
        for node in self.nodes:
            node.inputs.clear()
            node.outputs.clear()
        self.nodes.clear()

    def reduce(self, op: str, role: str, x: gs.Tensor, axes: Sequence[int], keepdims: bool = True) -> gs.Variable:
        """ReduceSum or another reduction, with its axes where the opset has them: as an input or as an attribute."""
        if self.opset >= (13 if op == "ReduceSum" else 18):
            return self.op(op, role, x, self.const(f"{role}_axes", list(axes)), keepdims=int(keepdims))
        return self.op(op, role, x, axes=list(axes), keepdims=int(keepdims))

    def unsqueeze(self, role: str, x: gs.Tensor, axes: Sequence[int]) -> gs.Tensor:
        """`x` with axes of size 1 inserted at these positions of the result; `x` itself if `axes` is empty."""
        return self._axes("Unsqueeze", role, x, axes) if axes else x

    def squeeze(self, role: str, x: gs.Tensor, axes: Sequence[int]) -> gs.Tensor:
        """`x` without these axes of size 1; `x` itself if `axes` is empty."""
        return self._axes("Squeeze", role, x, axes) if axes else x

    def transpose(self, role: str, x: gs.Tensor, perm: Sequence[int]) -> gs.Tensor:
        """`x` with its axes in this order; `x` itself if they are in this order already."""
        return x if list(perm) == sorted(perm) else self.op("Transpose", role, x, perm=list(perm))

    def cast(self, role: str, x: gs.Tensor, dtype: Any) -> gs.Tensor:
        """`x` converted to `dtype`; `x` itself if it has this type already."""
        if x.dtype == np.dtype(dtype):
            return x
        return self.op("Cast", role, x, to=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def slice(self, role: str, x: gs.Tensor, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int]) -> Any:
        """x[..., start:end, ...] along `axes`."""
        edges = [self.const(f"{role}_{w}", list(v)) for w, v in (("starts", starts), ("ends", ends), ("axes", axes))]
        return self.op("Slice", role, x, *edges)

    def reshape(self, role: str, x: gs.Tensor, sizes: Sequence[int | Axis | list[int | Axis]]) -> gs.Tensor:
        """`x` with these sizes. A list is a product of sizes.

        One size that is unknown before run time becomes -1; further ones are computed from shapes by new nodes.
        """
        flat = [resolve(size if isinstance(size, list) else [size]) for size in sizes]
        unknown = [axis for axis, size in enumerate(flat) if not isinstance(size, int)]
        if len(unknown) <= 1:
            target = [size if isinstance(size, int) else -1 for size in flat]
            return self.op("Reshape", role, x, self.const(f"{role}_shape", target))
        parts: list[gs.Tensor] = []
        for axis, size in enumerate(flat):
            if isinstance(size, int) or axis == unknown[-1]:
                parts.append(self.const(f"{role}_size{axis}", [size if isinstance(size, int) else -1]))
            else:
                parts.append(self._size(f"{role}_size{axis}", size))
        reshaped = self.op("Reshape", role, x, self.op("Concat", f"{role}_shape", *parts, axis=0))
        reshaped.shape = [size if isinstance(size, int) else None for size in flat]
        return reshaped

    def _size(self, role: str, factors: list[int | Axis]) -> gs.Tensor:
        """The product of `factors` as int64[1]."""
        product: gs.Tensor | None = None
        for i, factor in enumerate(factors):
            if isinstance(factor, int):
                size: gs.Tensor = self.const(f"{role}_factor{i}", [factor])
            else:
                shape = self.op("Shape", f"{role}_shape{i}", factor[0])
                size = self.op("Gather", f"{role}_factor{i}", shape, self.const(f"{role}_axis{i}", [factor[1]]))
            product = size if product is None else self.op("Mul", f"{role}_product{i}", product, size)
        assert product is not None
        return product

    def _axes(self, op: str, role: str, x: gs.Tensor, axes: Sequence[int]) -> gs.Variable:
        if self.opset < 13:
            return self.op(op, role, x, axes=list(axes))
        return self.op(op, role, x, self.const(f"{role}_axes", list(axes)))


def rewrite(
    graph: gs.Graph, sites: Sequence[gs.Node], build: Callable[[Builder], gs.Tensor], result: PassResult
) -> PassResult:
    """Replace each site by the nodes that `build` adds; `build` returns the tensor that replaces the site's output.

    A site for which `build` raises RewriteNotApplicable stays, and `result` records the reason as a skip.
    """
    names = Names(graph)
    for node in sites:
        builder = Builder(graph, node, names)
        try:
            output = build(builder)
        except RewriteNotApplicable as why:
            builder.discard()
            result.skip(node, str(why))
            continue
        builder.replace(output)
        result.changes += 1
    return result


def standard(graph: gs.Graph, *ops: str) -> list[gs.Node]:
    """The nodes with one of these standard ONNX ops, in graph order."""
    return [n for n in graph.nodes if n.op in ops and n.domain is None]


def text(node: gs.Node, name: str, default: str = "") -> str:
    """A string attribute, also where it is stored as bytes."""
    value = node.attrs.get(name, default)
    return value.decode() if isinstance(value, bytes) else str(value)


def only_output(node: gs.Node) -> None:
    """Raise RewriteNotApplicable if the node has more outputs than the first."""
    for tensor in node.outputs[1:]:
        if not tensor.is_empty():
            raise RewriteNotApplicable(f"it has a second output, '{tensor.name}'")


def typed(*tensors: gs.Tensor) -> None:
    """Raise RewriteNotApplicable if the type or the rank of a tensor is unknown."""
    for t in tensors:
        if t.dtype is None or t.shape is None:
            raise RewriteNotApplicable(f"the type or rank of '{t.name}' is unknown")


def resolve(factors: Sequence[int | Axis]) -> int | list[int | Axis]:
    """The product if all factors are static; otherwise the unknown factors, and last the product of the static ones."""
    known, rest = 1, []
    for factor in factors:
        size = factor if isinstance(factor, int) else factor[0].shape[factor[1]]
        if isinstance(size, (int, np.integer)):
            known *= int(size)
        else:
            rest.append(factor)
    if not rest:
        return known
    return [*rest, known] if known != 1 else list(rest)


def inferred(node: gs.Node, opset: int) -> list[tuple[Any, list[Any] | None]]:
    """Type and shape of each output by ONNX's shape inference for the op; None where it does not determine them."""
    proto = OnnxExporter.export_node(node)
    present = [t for t in node.inputs if not t.is_empty() and t.dtype is not None]
    values = {t.name: v for t in present if (v := small_constant(t)) is not None}
    imports = [onnx.helper.make_opsetid("", opset)]
    found = onnx.shape_inference.infer_node_outputs(
        onnx.defs.get_schema(node.op, opset),
        proto,
        {t.name: onnx.helper.make_tensor_type_proto(_elem(t.dtype), _dims(t)) for t in present},
        {name: onnx.numpy_helper.from_array(value, name) for name, value in values.items()},
        opset_imports=imports,
    )
    return [_known(found[t.name].tensor_type) if t.name in found else (None, None) for t in node.outputs]


def _elem(dtype: Any) -> int:
    return int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def _dims(tensor: gs.Tensor) -> list[Any] | None:
    return None if tensor.shape is None else list(tensor.shape)


def _known(proto: onnx.TypeProto.Tensor) -> tuple[Any, list[Any] | None]:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(proto.elem_type) if proto.elem_type else None
    if not proto.HasField("shape"):
        return dtype, None
    return dtype, [d.dim_value if d.HasField("dim_value") else (d.dim_param or None) for d in proto.shape.dim]
