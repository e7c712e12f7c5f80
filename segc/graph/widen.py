"""float16 and bfloat16 models as float32 models: types become wider, values stay what they are.

Every float16 and bfloat16 value is a float32 value, so weights and constants are exact. What goes is the rounding of
results between nodes, which is an accident of the file's types: a cast to float16 becomes one to float32, which copies.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import onnx.numpy_helper

from segc.graph import onnx_border

NARROW: dict[int, str] = {onnx.TensorProto.FLOAT16: "float16", onnx.TensorProto.BFLOAT16: "bfloat16"}
_FLOAT = onnx.TensorProto.FLOAT
# Attributes whose number is a type of results or of sums.
_TYPE_ATTRIBUTES = {"to", "dtype", "output_dtype", "output_datatype", "precision", "softmax_precision", "stash_type"}


def widen(model: onnx.ModelProto) -> list[str]:
    """Give the model float32 in place of float16 and bfloat16, in place. Returns the names of the types that it had.

    Graphs within graphs and functions are included. Cost: weights take twice the memory.
    """
    found: set[int] = set()
    for info in _infos(model):
        _widen_type(info.type, found)
    for tensor in _tensors(model):
        if tensor.data_type in NARROW:
            found.add(tensor.data_type)
            _widen_tensor(tensor)
    for node in _nodes(model):
        for attribute in node.attribute:
            if attribute.name in _TYPE_ATTRIBUTES and attribute.i in NARROW:
                found.add(attribute.i)
                attribute.i = _FLOAT
            for proto in (*([attribute.tp] if attribute.HasField("tp") else ()), *attribute.type_protos):
                _widen_type(proto, found)
    return [NARROW[number] for number in sorted(found)]


def _widen_tensor(tensor: onnx.TensorProto) -> None:
    values = np.asarray(onnx.numpy_helper.to_array(tensor)).astype(np.float32)
    name, text = tensor.name, tensor.doc_string
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, name))
    if text:
        tensor.doc_string = text


def _widen_type(proto: onnx.TypeProto, found: set[int]) -> None:
    kind = proto.WhichOneof("value")
    if kind in ("tensor_type", "sparse_tensor_type"):
        tensor = getattr(proto, kind)
        if tensor.elem_type in NARROW:
            found.add(tensor.elem_type)
            tensor.elem_type = _FLOAT
    elif kind in ("sequence_type", "optional_type"):
        _widen_type(getattr(proto, kind).elem_type, found)
    elif kind == "map_type":
        _widen_type(proto.map_type.value_type, found)


def _graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    yield from onnx_border.graphs(model.graph)
    for function in model.functions:
        for node in function.node:
            for graph in onnx_border.subgraphs(node):
                yield from onnx_border.graphs(graph)


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    for graph in _graphs(model):
        yield from graph.node
    for function in model.functions:
        yield from function.node


def _infos(model: onnx.ModelProto) -> Iterator[onnx.ValueInfoProto]:
    for graph in _graphs(model):
        yield from (*graph.input, *graph.output, *graph.value_info)
    for function in model.functions:
        yield from function.value_info


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from onnx_border.tensors(model)
    for graph in _graphs(model):
        yield from (sparse.values for sparse in graph.sparse_initializer)
    for node in _nodes(model):
        for attribute in node.attribute:
            sparse = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
            yield from (each.values for each in (*sparse, *attribute.sparse_tensors))
