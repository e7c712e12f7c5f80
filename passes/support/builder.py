"""Spelling new nodes: types and shapes inferred as ONNX says, names derived, differences between opsets hidden."""

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
Axis = tuple[gs.Tensor, int]  # the size of a tensor along an axis, known at run time at the latest


class Cannot(Exception):  # noqa: N818 - an answer, not a defect
    """Raised while nodes are being spelled, before the graph is touched: the reason of a skip."""


class Builder:
    """New nodes in place of one node. Nothing enters the graph before `replace`."""

    def __init__(self, graph: gs.Graph, node: gs.Node, names: Names) -> None:
        self.graph, self.node, self.names = graph, node, names
        self.opset: int = graph.opset
        self.y: gs.Variable = node.outputs[0]
        self.nodes: list[gs.Node] = []

    def op(self, op: str, role: str, *inputs: gs.Tensor | None, **attrs: Any) -> gs.Variable:
        """One node with one output, called `<output of the old node>_<role>`; None is an omitted input."""
        return self.split(op, (role,), *inputs, **attrs)[0]

    def split(self, op: str, roles: Sequence[str], *inputs: gs.Tensor | None, **attrs: Any) -> list[gs.Variable]:
        """One node with an output for each role."""
        given = [gs.Variable.empty() if t is None else t for t in inputs]
        outputs = [self.names.variable(self.y, role, None, None) for role in roles]
        node = gs.Node(op, attrs=attrs, inputs=given, outputs=outputs)
        for output, (dtype, shape) in zip(outputs, inferred(node, self.opset), strict=True):
            output.dtype, output.shape = dtype, shape
        self.nodes.append(node)
        return outputs

    def const(self, role: str, values: Any, dtype: Any = None) -> gs.Constant:
        """A constant; Python ints become int64."""
        return self.names.constant(self.y, role, np.array(values, dtype))

    def replace(self, result: gs.Tensor) -> None:
        """Put the new nodes where the old node stands; what made `result` writes the old output from now on."""
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
        """Detach what was spelled so far, so that its inputs do not count its nodes as users."""
        for node in self.nodes:
            node.inputs.clear()
            node.outputs.clear()
        self.nodes.clear()

    def reduce(self, op: str, role: str, x: gs.Tensor, axes: Sequence[int], keepdims: bool = True) -> gs.Variable:
        """ReduceSum and its like, in the spelling of the opset."""
        if self.opset >= (13 if op == "ReduceSum" else 18):
            return self.op(op, role, x, self.const(f"{role}_axes", list(axes)), keepdims=int(keepdims))
        return self.op(op, role, x, axes=list(axes), keepdims=int(keepdims))

    def unsqueeze(self, role: str, x: gs.Tensor, axes: Sequence[int]) -> gs.Tensor:
        """`x` with axes of size 1 at these places of the result; `x` itself when there are none."""
        return self._axes("Unsqueeze", role, x, axes) if axes else x

    def squeeze(self, role: str, x: gs.Tensor, axes: Sequence[int]) -> gs.Tensor:
        """`x` without these axes; `x` itself when there are none."""
        return self._axes("Squeeze", role, x, axes) if axes else x

    def transpose(self, role: str, x: gs.Tensor, perm: Sequence[int]) -> gs.Tensor:
        """`x` with its axes in this order; `x` itself when that is their order."""
        return x if list(perm) == sorted(perm) else self.op("Transpose", role, x, perm=list(perm))

    def cast(self, role: str, x: gs.Tensor, dtype: Any) -> gs.Tensor:
        """`x` as `dtype`; `x` itself when it is that already."""
        if x.dtype == np.dtype(dtype):
            return x
        return self.op("Cast", role, x, to=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def slice(self, role: str, x: gs.Tensor, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int]) -> Any:
        """x[..., start:end, ...] along `axes`."""
        edges = [self.const(f"{role}_{w}", list(v)) for w, v in (("starts", starts), ("ends", ends), ("axes", axes))]
        return self.op("Slice", role, x, *edges)

    def reshape(self, role: str, x: gs.Tensor, sizes: Sequence[int | Axis | list[int | Axis]]) -> gs.Tensor:
        """`x` with these sizes; a list is a product. Sizes known at run time only are computed, at most one is -1."""
        flat = [resolve(size if isinstance(size, list) else [size]) for size in sizes]
        unknown = [at for at, size in enumerate(flat) if not isinstance(size, int)]
        if len(unknown) <= 1:
            target = [size if isinstance(size, int) else -1 for size in flat]
            return self.op("Reshape", role, x, self.const(f"{role}_shape", target))
        parts: list[gs.Tensor] = []
        for at, size in enumerate(flat):
            if isinstance(size, int) or at == unknown[-1]:
                parts.append(self.const(f"{role}_size{at}", [size if isinstance(size, int) else -1]))
            else:
                parts.append(self._size(f"{role}_size{at}", size))
        made = self.op("Reshape", role, x, self.op("Concat", f"{role}_shape", *parts, axis=0))
        made.shape = [size if isinstance(size, int) else None for size in flat]
        return made

    def _size(self, role: str, factors: list[int | Axis]) -> gs.Tensor:
        """The product of `factors` as int64[1]."""
        whole: gs.Tensor | None = None
        for at, factor in enumerate(factors):
            if isinstance(factor, int):
                part: gs.Tensor = self.const(f"{role}_factor{at}", [factor])
            else:
                shape = self.op("Shape", f"{role}_shape{at}", factor[0])
                part = self.op("Gather", f"{role}_factor{at}", shape, self.const(f"{role}_axis{at}", [factor[1]]))
            whole = part if whole is None else self.op("Mul", f"{role}_product{at}", whole, part)
        assert whole is not None
        return whole

    def _axes(self, op: str, role: str, x: gs.Tensor, axes: Sequence[int]) -> gs.Variable:
        if self.opset < 13:
            return self.op(op, role, x, axes=list(axes))
        return self.op(op, role, x, self.const(f"{role}_axes", list(axes)))


def rewrite(
    graph: gs.Graph, sites: Sequence[gs.Node], spell: Callable[[Builder], gs.Tensor], result: PassResult
) -> PassResult:
    """Replace each site by what `spell` builds; where it raises Cannot the site stays and the reason is a skip."""
    names = Names(graph)
    for node in sites:
        builder = Builder(graph, node, names)
        try:
            made = spell(builder)
        except Cannot as why:
            builder.discard()
            result.skip(node, str(why))
            continue
        builder.replace(made)
        result.changes += 1
    return result


def standard(graph: gs.Graph, *ops: str) -> list[gs.Node]:
    """The nodes of these standard ops, in the graph's order."""
    return [n for n in graph.nodes if n.op in ops and n.domain is None]


def text(node: gs.Node, name: str, default: str = "") -> str:
    """A string attribute, which may arrive as bytes."""
    value = node.attrs.get(name, default)
    return value.decode() if isinstance(value, bytes) else str(value)


def only_output(node: gs.Node) -> None:
    """Raise Cannot when an output beyond the first is used."""
    for tensor in node.outputs[1:]:
        if not tensor.is_empty():
            raise Cannot(f"its output '{tensor.name}' is there too")


def typed(*tensors: gs.Tensor) -> None:
    """Raise Cannot when the type or the rank of a tensor is unknown."""
    for t in tensors:
        if t.dtype is None or t.shape is None:
            raise Cannot(f"type or rank of '{t.name}' is unknown")


def resolve(factors: Sequence[int | Axis]) -> int | list[int | Axis]:
    """The product as a number when all factors are known, otherwise the factors, the known ones multiplied."""
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
    """Type and shape of each output, as far as ONNX's rule for this op tells."""
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
