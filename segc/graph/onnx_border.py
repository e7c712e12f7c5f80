"""What an ONNX file must be before any library looks at it: names, values and sizes that fit each other.

Only Python looks here, so nothing can crash; what a declared size would need is judged before memory is asked for. What
an op means is ONNX's checker's and shape inference's business, which come later (segc.graph.libraries).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
from google.protobuf.message import Message

from segc.errors import Code, SourceError

Key = TypeVar("Key", bound=Hashable)
Tensor = onnx.TensorProto
LONGEST_NAME = 255  # bytes of a file's name
LARGEST_OPSET = 10_000
LARGEST_TENSOR = 1 << 40  # values that a declared shape may stand for
DEEPEST = 64  # graphs within graphs

_BITS = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}
_FIELD_OF = {
    "FLOAT": "float_data", "COMPLEX64": "float_data", "DOUBLE": "double_data", "COMPLEX128": "double_data",
    "INT64": "int64_data", "UINT32": "uint64_data", "UINT64": "uint64_data", "STRING": "string_data",
}  # fmt: skip
_FIELDS = ("float_data", "double_data", "int32_data", "int64_data", "uint64_data", "string_data")
# Attributes by which libraries divide, or that size their loops: of every op that has one, in every element.
_AT_LEAST_1 = {"strides", "dilations", "kernel_shape", "group", "blocksize", "num_outputs", "num_groups"}
_Attribute = onnx.AttributeProto
_FIELD_OF_TYPE = {
    _Attribute.FLOAT: "f", _Attribute.INT: "i", _Attribute.STRING: "s", _Attribute.TENSOR: "t", _Attribute.GRAPH: "g",
    _Attribute.SPARSE_TENSOR: "sparse_tensor", _Attribute.TYPE_PROTO: "tp", _Attribute.FLOATS: "floats",
    _Attribute.INTS: "ints", _Attribute.STRINGS: "strings", _Attribute.TENSORS: "tensors",
    _Attribute.GRAPHS: "graphs", _Attribute.SPARSE_TENSORS: "sparse_tensors", _Attribute.TYPE_PROTOS: "type_protos",
}  # fmt: skip
_VALUE_FIELDS = set(_FIELD_OF_TYPE.values())


class Unfit(Exception):  # noqa: N818 - becomes a SourceError that names the file
    """What is wrong, in a line."""


@dataclass(frozen=True)
class External:
    """Where a tensor's values lie: `length` bytes from `offset` on in the file `location`."""

    location: str
    offset: int
    length: int


def check(model: onnx.ModelProto, path: Path) -> None:
    """Refuse what cannot be a model. Raises SourceError."""
    try:
        _check_texts(model)
        _check_imports(model)
        _check_functions(model)
        _check_graph(model.graph, _Scope(set(), set()), 0)
    except Unfit as unfit:
        raise SourceError(
            f"'{path}' is not a valid ONNX model", code=Code.NOT_ONNX, because=str(unfit), so="export it again"
        ) from unfit


def _check_texts(message: Message) -> None:
    """Every name is text: protobuf hands out bytes where a file has something else."""
    for field, value in message.ListFields():
        for part in value if field.is_repeated else (value,):
            if field.type == field.TYPE_MESSAGE:
                _check_texts(part)
            elif field.type == field.TYPE_STRING:
                _require(isinstance(part, str), f"a {field.name} is not text: {part!r:.60}")
            else:
                break


def external(tensor: Tensor, path: Path) -> External:
    """The checked place of a tensor's values, in a file below the model's folder. Raises SourceError."""
    given = {entry.key: entry.value for entry in tensor.external_data}
    location, root = given.get("location", ""), path.parent.resolve()
    if not location or "\0" in location or any(len(p.encode()) > LONGEST_NAME for p in Path(location).parts):
        raise _external_error(path, "names no file", f"tensor '{tensor.name}' is at {location[:80]!r}")
    file = root / location
    if Path(location).is_absolute() or "\\" in location or not _resolved(file, path).is_relative_to(root):
        raise SourceError(
            f"external data of '{path}' points outside its folder",
            code=Code.ONNX_EXTERNAL_DATA,
            because=f"tensor '{tensor.name}' is at '{location}'",
            so="keep the data file beside the model",
        )
    if not file.is_file():
        raise SourceError(
            f"external data of '{path}' is missing",
            code=Code.ONNX_EXTERNAL_DATA,
            because=f"tensor '{tensor.name}' should be in '{location}'",
            so=f"copy '{location}' beside the model",
        )
    offset, wanted = _number(tensor, given, "offset", 0, path), stored_bytes(tensor)
    length = _number(tensor, given, "length", wanted, path)
    if length != wanted:
        why = f"tensor '{tensor.name}' has {length} bytes, its shape asks for {wanted}"
        raise _external_error(path, "does not fit", why)
    if offset + length > (size := file.stat().st_size):
        why = f"tensor '{tensor.name}' ends at byte {offset + length} of '{location}', which has {size}"
        raise _external_error(path, "is cut off", why)
    return External(location, offset, length)


def stored_bytes(tensor: Tensor) -> int:
    """Bytes of a tensor's values as files hold them, from its declared type and shape."""
    count, name = int(math.prod(tensor.dims)), Tensor.DataType.Name(tensor.data_type)
    if (bits := _BITS.get(name)) is not None:
        return -(-count * bits // 8)
    return count * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def tensors(model: onnx.ModelProto) -> Iterator[Tensor]:
    """All dense tensors of a model, those of attributes and subgraphs included."""
    for graph in graphs(model.graph):
        yield from graph.initializer
        for node in graph.node:
            yield from _of_attributes(node)
    for function in model.functions:
        for node in function.node:
            yield from _of_attributes(node)
            for graph in subgraphs(node):
                for inner in graphs(graph):
                    yield from inner.initializer
                    for each in inner.node:
                        yield from _of_attributes(each)


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and all graphs in it."""
    yield graph
    for node in graph.node:
        for inner in subgraphs(node):
            yield from graphs(inner)


def _resolved(file: Path, path: Path) -> Path:
    try:
        return file.resolve()
    except (OSError, RuntimeError) as error:  # a loop of links
        raise _external_error(path, "cannot be found", str(error)) from error


def _number(tensor: Tensor, given: Mapping[str, str], key: str, otherwise: int, path: Path) -> int:
    text = given.get(key, "")
    if not text:
        return otherwise
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise _external_error(path, "cannot be found", f"tensor '{tensor.name}' has the {key} {text[:40]!r}")
    return int(text)


def _external_error(path: Path, what: str, because: str) -> SourceError:
    return SourceError(
        f"external data of '{path}' {what}", code=Code.ONNX_EXTERNAL_DATA, because=because, so="export or copy it again"
    )


def _require(good: bool, why: str) -> None:
    if not good:
        raise Unfit(why)


def _text(value: str, what: str) -> str:
    """A name for messages, cut."""
    return f"{what} '{value if len(value) <= 80 else value[:80] + '…'}'"


def _check_imports(model: onnx.ModelProto) -> None:
    domains = Counter("" if o.domain == "ai.onnx" else o.domain for o in model.opset_import)
    for domain, times in domains.items():
        _require(times == 1, f"it imports {_text(domain, 'domain')} {times} times")
    for opset in model.opset_import:
        _require(1 <= opset.version <= LARGEST_OPSET, f"it imports version {opset.version} of '{opset.domain}'")
    _require("" in domains, "it imports no version of ONNX's own ops")


def _check_functions(model: onnx.ModelProto) -> None:
    functions = {(f.domain, f.name): f for f in model.functions}
    _require(len(functions) == len(model.functions), "two functions have one name")
    for function in model.functions:
        where = _text(function.name, "function")
        _require(bool(function.name), "a function has no name")
        _require(len(set(function.input)) == len(function.input), f"{where} has two inputs of one name")
        scope = _Scope(set(function.input), _written(function.node), in_function=True)
        for node in function.node:
            _check_node(node, scope, 0)
        for name in function.output:
            _require(name in scope.known, f"{where} has the output '{name}', which nothing writes")
    calls = {
        key: [callee for node in _nodes(function.node) if (callee := (node.domain, node.op_type)) in functions]
        for key, function in functions.items()
    }
    _require_order(calls, lambda key: _text(key[1], "function"))


@dataclass
class _Scope:
    """known: names that are there. later: names that a node further on writes; files may have nodes in any order."""

    known: set[str]
    later: set[str]
    in_function: bool = False


def _check_graph(graph: onnx.GraphProto, outer: _Scope, depth: int) -> None:
    _require(depth < DEEPEST, "graphs lie within graphs too deeply")
    _require(bool(graph.output), "a graph has no output")
    inputs = [info.name for info in graph.input]
    _require(all(inputs), "an input has no name")
    _require(len(set(inputs)) == len(inputs), "two inputs have one name")
    initializers = [t.name for t in graph.initializer] + [t.values.name for t in graph.sparse_initializer]
    _require(all(initializers), "an initializer has no name")
    _require(len(set(initializers)) == len(initializers), "two initializers have one name")
    for tensor in graph.initializer:
        _check_tensor(tensor)
    for sparse in graph.sparse_initializer:
        _check_sparse(sparse)
    for info in (*graph.input, *graph.output, *graph.value_info):
        _check_info(info)
    own = _written(graph.node)
    scope = _Scope({*outer.known, *inputs, *initializers}, outer.later | own, outer.in_function)
    for node in graph.node:
        _check_node(node, scope, depth)
    writers = {name: at for at, node in enumerate(graph.node) for name in node.output if name}
    needs = {at: [writers[n] for n in reads(node) if n in writers] for at, node in enumerate(graph.node)}
    _require_order(needs, lambda at: f"{graph.node[at].op_type} {_text(graph.node[at].name, 'node')}")
    for info in graph.output:
        _require(info.name in scope.known, f"{_text(info.name, 'output')} is written by no node")


def _written(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    return {name for node in nodes for name in node.output if name}


def _nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes, and those in their subgraphs."""
    for node in nodes:
        yield node
        for graph in subgraphs(node):
            yield from _nodes(graph.node)


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """Names that a node reads, itself and in its subgraphs."""
    yield from node.input
    for graph in subgraphs(node):
        for inner in graph.node:
            yield from reads(inner)
        yield from (info.name for info in graph.output)


def _require_order(needs: Mapping[Key, Sequence[Key]], named: Callable[[Key], str]) -> None:
    """Raise Unfit where keys need each other in a circle. No recursion: chains are as long as models are deep."""
    done: set[Key] = set()
    for first in needs:
        stack = [(first, iter(needs[first]))] if first not in done else []
        open_ones = {first}
        while stack:
            key, rest = stack[-1]
            following = next((n for n in rest if n not in done), None)
            if following is None:
                done.add(key)
                open_ones.discard(key)
                stack.pop()
            else:
                _require(following not in open_ones, f"{named(following)} needs what only it leads to")
                open_ones.add(following)
                stack.append((following, iter(needs[following])))


def _check_node(node: onnx.NodeProto, scope: _Scope, depth: int) -> None:
    """Its names and attributes; `scope` grows by what it writes."""
    where = f"{node.op_type} {_text(node.name or next(iter(node.output), ''), 'node')}"
    _require(bool(node.op_type), "a node has no op")
    _require(any(node.output), f"{where} has no output")
    for name in filter(None, node.input):
        _require(name in scope.known or name in scope.later, f"{where} reads '{name}', which nothing writes")
    for attribute in node.attribute:
        _check_attribute(attribute, where, scope.in_function)
    repeated = [name for name, times in Counter(a.name for a in node.attribute).items() if times > 1]
    _require(not repeated, f"{where} has the attribute '{''.join(repeated[:1])}' twice")
    for graph in subgraphs(node):
        _check_graph(graph, scope, depth + 1)
    for name in filter(None, node.output):
        _require(name not in scope.known, f"{where} writes '{name}', which is there already")
        scope.known.add(name)


def _check_attribute(attribute: onnx.AttributeProto, where: str, in_function: bool) -> None:
    _require(bool(attribute.name), f"{where} has an attribute without a name")
    if attribute.ref_attr_name:
        _require(in_function, f"{where} takes '{attribute.name}' from a function, and is in none")
        return
    field = _FIELD_OF_TYPE.get(attribute.type)
    _require(field is not None, f"{where} has the attribute '{attribute.name}' of no known type")
    if field in ("t", "g", "sparse_tensor", "tp"):
        _require(attribute.HasField(field), f"{where} has the attribute '{attribute.name}' without a value")
    used = {descriptor.name for descriptor, _ in attribute.ListFields()} & _VALUE_FIELDS
    _require(used <= {field}, f"{where} has the attribute '{attribute.name}' with values of another type")
    for text in (attribute.s, *attribute.strings):
        _require(_is_text(text), f"{where} has the attribute '{attribute.name}', which is no text")
    if attribute.name in _AT_LEAST_1:
        values = [*attribute.ints, *([attribute.i] if field == "i" else [])]
        _require(all(v >= 1 for v in values), f"{where} has {attribute.name} {values}, which are at least 1")
        _require(all(v < 1 << 31 for v in values), f"{where} has {attribute.name} {values}, which are too large")
    for tensor in (*([attribute.t] if attribute.HasField("t") else ()), *attribute.tensors):
        _check_tensor(tensor)
    sparse = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
    for each in (*sparse, *attribute.sparse_tensors):
        _check_sparse(each)


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _check_info(info: onnx.ValueInfoProto) -> None:
    where = _text(info.name, "tensor")
    _require(bool(info.name), "a tensor has no name")
    if not info.type.HasField("tensor_type"):
        return
    _check_type(info.type.tensor_type.elem_type, where)
    sizes = [d.dim_value for d in info.type.tensor_type.shape.dim if d.HasField("dim_value")]
    _require(all(size >= -1 for size in sizes), f"{where} has the shape {sizes}")
    need = math.prod(size for size in sizes if size > 0)
    _require(need <= LARGEST_TENSOR, f"{where} of the shape {sizes} has {need:.1e} values, more than can be computed")


def _check_type(number: int, where: str) -> None:
    good = number != Tensor.UNDEFINED and number in Tensor.DataType.values()
    _require(good, f"{where} has the type {number}, which ONNX does not know")


def _check_tensor(tensor: Tensor) -> None:
    """Its values are as many as its shape says."""
    where = _text(tensor.name, "tensor")
    _check_type(tensor.data_type, where)
    shape = list(tensor.dims)
    _require(not tensor.HasField("segment"), f"{where} is a part of another one")
    _require(all(size >= 0 for size in shape), f"{where} has the shape {shape}")
    count, name = math.prod(shape), Tensor.DataType.Name(tensor.data_type)
    _require(count <= LARGEST_TENSOR, f"{where} of the shape {shape} is larger than files are")
    typed = {field: len(getattr(tensor, field)) for field in _FIELDS if len(getattr(tensor, field))}
    own = _FIELD_OF.get(name, "int32_data")
    if tensor.data_location == Tensor.EXTERNAL:
        _require(not typed and not tensor.raw_data, f"{where} has values here and in another file")
        _require(name != "STRING", f"{where} holds text, which lies in no other file")
    elif tensor.raw_data or (tensor.HasField("raw_data") and not typed):
        _require(not typed, f"{where} has values twice")
        _require(name != "STRING", f"{where} holds text as bytes")
        have, wanted = len(tensor.raw_data), stored_bytes(tensor)
        _require(have == wanted, f"{where} of the shape {shape} has {have} bytes, it needs {wanted}")
    else:
        _require(typed.keys() <= {own}, f"{where} has values of another type")
        per_byte = 8 // _BITS[name] if name in _BITS else 1
        wanted = -(-count // per_byte) * (2 if name.startswith("COMPLEX") else 1)
        have = typed.get(own, 0)
        _require(have == wanted, f"{where} of the shape {shape} has {have} values, it needs {wanted}")


def _check_sparse(sparse: onnx.SparseTensorProto) -> None:
    where, dims = _text(sparse.values.name, "sparse tensor"), list(sparse.dims)
    _check_tensor(sparse.values)
    _check_tensor(sparse.indices)
    count = math.prod(dims)
    _require(bool(dims) and all(size >= 1 for size in dims), f"{where} has the shape {dims}")
    _require(count <= 1 << 31, f"{where} of the shape {dims} is too large to be made dense")
    given, at = list(sparse.values.dims), list(sparse.indices.dims)
    good = len(given) == 1 and at in ([given[0]], [given[0], len(dims)])
    _require(good, f"{where} has {given} values at {at} places")
    _require(sparse.indices.data_type == Tensor.INT64, f"{where} has places that are no int64")
    for tensor in (sparse.values, sparse.indices):
        _require(tensor.data_location != Tensor.EXTERNAL, f"{where} has values in another file")
    places = onnx.numpy_helper.to_array(sparse.indices)
    most = dims if places.ndim == 2 else [count]
    inside = all(low >= 0 and high < size for low, high, size in zip(*_extent(places), most, strict=True))
    _require(inside, f"{where} has values outside of its shape")


def _extent(places: np.ndarray) -> tuple[list[int], list[int]]:
    """Least and greatest place along each axis."""
    array = np.atleast_2d(places.T)
    if not array.size:
        return [0] * len(array), [0] * len(array)
    return array.min(1).tolist(), array.max(1).tolist()


def _of_attributes(node: onnx.NodeProto) -> Iterator[Tensor]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs in a node's attributes."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs
