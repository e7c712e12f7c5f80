"""A view of an ONNX file for the front end: who writes and reads what, of which type and shape, and small edits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper

from segc.graph import libraries, onnx_border
from segc.graph.node_order import sort_nodes
from segc.graph.onnx_reader import skeleton

Shape = tuple[int | None, ...]  # None: a size that is not known


class FileGraph:
    """The main graph of a model, which the methods that edit change in place."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.graph = model.graph
        self.opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
        self.refresh()

    def refresh(self) -> None:
        """Look again at who writes and reads what, after edits."""
        self.producers = {name: node for node in self.graph.node for name in node.output if name}
        self.initializers = {tensor.name: tensor for tensor in self.graph.initializer}
        self._names = {name for each in onnx_border.graphs(self.graph) for name in _names(each)}
        self._types: dict[str, tuple[int, Shape | None]] = {}
        self._at: tuple[str | None, tuple[int, ...]] = (None, ())

    @property
    def batch(self) -> int:
        """The batch that types were inferred with."""
        return self._at[1][0] if self._at[1] else 1

    def images(self) -> list[onnx.ValueInfoProto]:
        """The inputs that are no initializers."""
        sparse = {tensor.values.name for tensor in self.graph.sparse_initializer}
        return [i for i in self.graph.input if i.name not in self.initializers and i.name not in sparse]

    def readers(self, name: str) -> list[onnx.NodeProto]:
        """The nodes that read a tensor, themselves or in their subgraphs."""
        return [node for node in self.graph.node if name in onnx_border.reads(node)]

    def infer(self, image: str | None = None, sizes: Sequence[int] = ()) -> None:
        """Infer types and shapes with the input `image` at these sizes. Raises one of libraries.CHECK_ERRORS."""
        self._at = (image, tuple(sizes))
        bare = skeleton(self.model)
        for info in bare.graph.input:
            if info.name == image:
                set_sizes(info, sizes)
        for info in bare.graph.output:  # declared for other sizes
            info.type.tensor_type.ClearField("shape")
        del bare.graph.value_info[:]
        inferred = libraries.infer_shapes(bare)
        for info in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
            self._types[info.name] = _type_of(info)

    def infer_again(self) -> None:
        """Infer the types and shapes of nodes that were added."""
        self.infer(*self._at)

    def dtype(self, name: str) -> int:
        """The type of a tensor as a number of ONNX; 0 where it is not known."""
        if name in self.initializers:
            return int(self.initializers[name].data_type)
        return self._types.get(name, (0, None))[0]

    def shape(self, name: str) -> Shape | None:
        """The shape of a tensor; None where its rank is not known."""
        if name in self.initializers:
            return tuple(self.initializers[name].dims)
        return self._types.get(name, (0, None))[1]

    def constant(self, name: str) -> np.ndarray | None:
        """The values of an initializer or of a Constant node, else None."""
        if name in self.initializers:
            return np.asarray(onnx.numpy_helper.to_array(self.initializers[name]))
        node = self.producers.get(name)
        if node is None or node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
            return None
        value = next(iter(node.attribute), None)
        if value is None or value.name not in ("value", "value_float", "value_int", "value_ints", "value_floats"):
            return None
        held = onnx.helper.get_attribute_value(value)
        return np.asarray(onnx.numpy_helper.to_array(held) if value.name == "value" else held)

    def new(self, base: str) -> str:
        """A name that no tensor has."""
        name = base
        while name in self._names:
            name += "_"
        self._names.add(name)
        return name

    def constant_named(self, base: str, values: np.ndarray) -> str:
        """A new initializer."""
        name = self.new(base)
        self.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
        return name

    def add(self, op: str, inputs: Sequence[str], base: str, **attributes: Any) -> str:
        """The output of a new node."""
        name = self.new(base)
        self.graph.node.append(onnx.helper.make_node(op, list(inputs), [name], name=f"{op}/{name}", **attributes))
        return name

    def unsqueeze(self, x: str, axes: Sequence[int], base: str) -> str:
        """`x` with axes of size 1 at these places of the result."""
        if self.opset < 13:
            return self.add("Unsqueeze", [x], base, axes=list(axes))
        return self.add("Unsqueeze", [x, self.constant_named(f"{base}_axes", np.array(list(axes), np.int64))], base)

    def rename_reads(self, old: str, new: str) -> None:
        """Let every node that reads `old` read `new`, in subgraphs too."""
        for graph in onnx_border.graphs(self.graph):
            for node in graph.node:
                for at, name in enumerate(node.input):
                    if name == old:
                        node.input[at] = new

    def give(self, name: str) -> None:
        """Make `name`, float32 (N, C, H, W), the only output; what only others need goes, inputs included."""
        kept = next((info for info in self.graph.output if info.name == name), None)
        info = kept or onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None] * 4)
        output = onnx.ValueInfoProto.FromString(info.SerializeToString())
        del self.graph.output[:]
        self.graph.output.append(output)
        sort_nodes(self.model)
        self._prune()
        self.refresh()

    def _prune(self) -> None:
        needed = {self.graph.output[0].name}
        kept = []
        for node in reversed(self.graph.node):
            if needed.intersection(node.output):
                kept.append(node)
                needed.update(onnx_border.reads(node))
        if len(kept) < len(self.graph.node):
            nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(kept)]
            del self.graph.node[:]
            self.graph.node.extend(nodes)
        for field in (self.graph.initializer, self.graph.input):
            for at in reversed(range(len(field))):
                if field[at].name not in needed:
                    del field[at]
        for at in reversed(range(len(self.graph.sparse_initializer))):
            if self.graph.sparse_initializer[at].values.name not in needed:
                del self.graph.sparse_initializer[at]
        written = {name for node in self.graph.node for name in node.output} | needed
        for at in reversed(range(len(self.graph.value_info))):
            if self.graph.value_info[at].name not in written:
                del self.graph.value_info[at]

    def forget(self, names: set[str]) -> None:
        """Drop what the file says about types and shapes of these tensors."""
        for at in reversed(range(len(self.graph.value_info))):
            if self.graph.value_info[at].name in names:
                del self.graph.value_info[at]


def attribute(node: onnx.NodeProto, name: str, otherwise: Any = None) -> Any:
    """The value of an attribute."""
    found = next((a for a in node.attribute if a.name == name), None)
    return otherwise if found is None else onnx.helper.get_attribute_value(found)


def standard(node: onnx.NodeProto | None, *ops: str) -> bool:
    """Whether a node is one of these ops of ONNX."""
    return node is not None and node.op_type in ops and node.domain in ("", "ai.onnx")


def set_sizes(info: onnx.ValueInfoProto, sizes: Sequence[int | str | None]) -> None:
    """Give an input these sizes: numbers, names, or None."""
    shape = info.type.tensor_type.shape
    del shape.dim[:]
    for size in sizes:
        dim = shape.dim.add()
        if isinstance(size, str):
            dim.dim_param = size
        elif size is not None:
            dim.dim_value = size


def _type_of(info: onnx.ValueInfoProto) -> tuple[int, Shape | None]:
    tensor = info.type.tensor_type
    if not tensor.HasField("shape"):
        return tensor.elem_type, None
    return tensor.elem_type, tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)


def _names(graph: onnx.GraphProto) -> Iterator[str]:
    for node in graph.node:
        yield from (*node.input, *node.output)
    yield from (info.name for info in (*graph.input, *graph.output))
    yield from (tensor.name for tensor in graph.initializer)
