"""Import ONNX models into the IR, and export them. The IR is an `onnx_graphsurgeon.Graph` of ONNX and the segc dialect.

On import, functions of other domains are inlined, Constant nodes become constants, and every node keeps its origin. On
export, the model contains the reference body of each dialect op that it uses, so that ONNX Runtime runs any
intermediate graph.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter
from onnx_graphsurgeon.ir.tensor import SparseValues

from segc.graph import dialect, graphsurgeon_patch, libraries, source_info

PRODUCER = "segc"
STANDARD = ("", "ai.onnx")  # names of ONNX's own domain
INITIALIZERS_ALONE = 4  # the IR version from which on initializers need not be inputs too, which the IR never writes

graphsurgeon_patch.install()


class CycleError(ValueError):
    """The graph has a cycle."""


@contextmanager
def collection_paused() -> Iterator[None]:
    """Pause Python's cycle collector, which would scan all objects again and again while many are created."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


@collection_paused()
def from_model(model: onnx.ModelProto) -> gs.Graph:
    """Import a model. The import may modify `model`: do not use it afterwards."""
    model = _without_functions(model)
    origins = [source_info.read(node) for node in model.graph.node]
    graph = gs.import_onnx(model)
    graph.functions = []
    graph.ir_version = max(graph.ir_version or 0, INITIALIZERS_ALONE)
    for node, where in zip(graph.nodes, origins, strict=True):
        source_info.put(node, where)
        node.domain = node.domain or None
    _constants_from_nodes(graph)
    _make_dense(graph)
    _forget_negative_sizes(graph)
    name_all(graph)
    return graph


def to_model(graph: gs.Graph, *, functions: bool = True, origins: bool = False) -> onnx.ModelProto:
    """Export the IR.

    functions: add the reference bodies of the dialect ops in use, so that the model runs in any runtime.
    origins: write each node's origin into its metadata_props. Emitted files omit it: they are smaller, and the same
    source gives the same bytes on every machine.
    """
    graph.producer_name, graph.producer_version = PRODUCER, ""
    model: onnx.ModelProto = gs.export_onnx(graph, do_type_check=False)
    for opset in model.opset_import:
        if opset.domain in STANDARD:
            opset.version = graph.opset
    used = {node.domain for node in nodes(graph) if node.domain}
    for opset in [o for o in model.opset_import if o.domain and o.domain not in used]:
        model.opset_import.remove(opset)
    if origins:
        add_origins(model, graph)
    if functions:
        add_functions(model, graph)
    return model


def set_opset(graph: gs.Graph, opset: int) -> None:
    """Declare the opset of the graph and its subgraphs, and an IR version that has it."""
    for each in [graph, *graph.subgraphs(recursive=True)]:
        each.opset = opset
        others = [domain for domain in each.import_domains or [] if domain.domain not in STANDARD]
        each.import_domains = [onnx.helper.make_opsetid("", opset), *others]
    if graph.ir_version is not None:
        least = onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", opset)])
        graph.ir_version = max(graph.ir_version, least)


def add_origins(model: onnx.ModelProto, graph: gs.Graph) -> None:
    """Write the origin of each node of `graph` into the same node of `model`, its export."""
    for node, proto in zip(graph.nodes, model.graph.node, strict=True):
        source_info.write(proto, source_info.of(node))


def add_functions(model: onnx.ModelProto, graph: gs.Graph) -> None:
    """Add the reference bodies of the dialect ops in use to `model`, the export of `graph`."""
    ops = {node.op for node in nodes(graph) if node.domain == dialect.DOMAIN}
    model.functions.extend(dialect.function(op, graph.opset) for op in sorted(ops))


def complete_functions(model: onnx.ModelProto) -> None:
    """Add the reference bodies of the dialect ops that `model` uses and has no body for."""
    known = {(function.domain, function.name) for function in model.functions}
    ops = {node.op_type for node in model.graph.node if node.domain == dialect.DOMAIN}
    opset = next((each.version for each in model.opset_import if each.domain in STANDARD), 0)
    wanted = sorted(op for op in ops if (dialect.DOMAIN, op) not in known)
    model.functions.extend(dialect.function(op, opset) for op in wanted)


def nodes(graph: gs.Graph) -> Iterator[gs.Node]:
    """All nodes, including those of subgraphs (If, Loop, Scan)."""
    for node in graph.nodes:
        yield node
        for subgraph in node.subgraphs():
            yield from nodes(subgraph)


def constant(tensor: gs.Tensor) -> np.ndarray | None:
    """The value of a constant tensor, None for a variable."""
    return tensor.values if isinstance(tensor, gs.Constant) else None


def static_shape(tensor: gs.Tensor) -> tuple[int, ...] | None:
    """The shape if every size is a number, otherwise None."""
    shape = tensor.shape
    if shape is None or not all(isinstance(size, (int, np.integer)) for size in shape):
        return None
    return tuple(int(size) for size in shape)


@collection_paused()
def infer_shapes(graph: gs.Graph) -> int:
    """Infer the types and shapes of all tensors from those of the inputs. Returns the number of updates.

    A known size stays, unless it is symbolic and inference finds a number. ONNX's inference and the shape rules of the
    dialect run in turns until nothing changes. Large constants are represented by their type: weights are not copied.
    """
    learned = 0
    while round_ := _infer_standard(graph) + _infer_dialect(graph):
        learned += round_
    return learned


def checkable_model(graph: gs.Graph) -> onnx.ModelProto:
    """The graph for ONNX's checker: large constants are inputs of their type, dialect ops have their bodies."""
    model = weightless_model(graph)
    add_functions(model, graph)
    return model


def weightless_model(graph: gs.Graph, limit: int = 1024) -> onnx.ModelProto:
    """The graph as a model in which every constant of more than `limit` elements is an input of its type.

    For analyses and rewrites of the structure, whose cost then does not depend on the size of the weights.
    """
    tensors = graph.tensors()
    constants = [t for t in tensors.values() if isinstance(t, gs.Constant)]
    weights = [t for t in constants if math.prod(t.shape) > limit]
    large = {id(t) for t in weights}
    inside = {id(t) for t in [*graph.inputs, *graph.outputs]}
    known = [t for t in tensors.values() if isinstance(t, gs.Variable) and t.dtype is not None and id(t) not in inside]
    proto = onnx.helper.make_graph(
        [OnnxExporter.export_node(node) for node in graph.nodes],
        graph.name or "graph",
        [_value_info(t) for t in [*graph.inputs, *weights]],
        [_value_info(t) for t in graph.outputs],
        initializer=[OnnxExporter.export_tensor_proto(t) for t in constants if id(t) not in large],
        value_info=[_value_info(t) for t in known],
    )
    versions = {o.domain: o.version for o in graph.import_domains or ()}
    domains = sorted({node.domain for node in nodes(graph) if node.domain})
    opsets = [onnx.helper.make_opsetid("", graph.opset)]
    opsets += [onnx.helper.make_opsetid(domain, versions.get(domain, 1)) for domain in domains]
    return onnx.helper.make_model(proto, opset_imports=opsets, ir_version=graph.ir_version or 10)


def name_all(graph: gs.Graph) -> None:
    """Name every node that has no name after its first output."""
    for node in nodes(graph):
        if not node.name and node.outputs:
            node.name = f"{node.op}/{node.outputs[0].name}"


def cleanup(graph: gs.Graph) -> gs.Graph:
    """Remove the nodes that no output depends on, also in subgraphs, and sort the others. Graph inputs stay.

    In the sorted list each node follows the producers of its inputs; apart from that the order stays as it was. Cost:
    linear. Raises CycleError.
    """
    for node in graph.nodes:
        for subgraph in node.subgraphs():
            cleanup(subgraph)
    for tensor in graph.inputs:
        tensor.inputs.clear()
    read = {id(node): reads(node) for node in graph.nodes}
    needed = _needed(graph, read)
    for node in graph.nodes:
        if id(node) not in needed:
            node.inputs.clear()
            node.outputs.clear()
    graph.nodes = _sorted([node for node in graph.nodes if id(node) in needed], read)
    return graph


def reads(node: gs.Node) -> list[gs.Tensor]:
    """The tensors that the node and the nodes of its subgraphs read, including tensors local to the subgraphs."""
    inner = [node for subgraph in node.subgraphs(recursive=True) for node in subgraph.nodes]
    outputs = [t for subgraph in node.subgraphs(recursive=True) for t in subgraph.outputs]
    return [*node.inputs, *outputs, *(t for each in inner for t in each.inputs)]


def _needed(graph: gs.Graph, read: dict[int, list[gs.Tensor]]) -> set[int]:
    """Ids of the graph's nodes that its outputs depend on."""
    pending = [node for tensor in graph.outputs for node in tensor.inputs if id(node) in read]
    needed = {id(node) for node in pending}
    while pending:
        for tensor in read[id(pending.pop())]:
            for node in tensor.inputs:
                if id(node) in read and id(node) not in needed:
                    needed.add(id(node))
                    pending.append(node)
    return needed


def _sorted(wanted: list[gs.Node], read: dict[int, list[gs.Tensor]]) -> list[gs.Node]:
    """Stable topological sort, depth first without recursion: each node moves behind its producers only if it must."""
    inside = {id(node) for node in wanted}
    result: list[gs.Node] = []
    begun: dict[int, bool] = {}  # True while the node waits for its producers, False once it is in the result

    def producers(node: gs.Node) -> Iterator[gs.Node]:
        return (p for tensor in read[id(node)] for p in tensor.inputs if id(p) in inside)

    for first in wanted:
        stack = [] if id(first) in begun else [(first, producers(first))]
        while stack:
            node, rest = stack[-1]
            begun[id(node)] = True
            missing = next((p for p in rest if begun.get(id(p), True)), None)
            if missing is None:
                begun[id(node)] = False
                result.append(node)
                stack.pop()
            elif id(missing) in begun:
                raise CycleError(f"nodes '{node.name}' and '{missing.name}' are on a cycle")
            else:
                stack.append((missing, producers(missing)))
    return result


def _value_info(tensor: gs.Tensor) -> onnx.ValueInfoProto:
    info: onnx.ValueInfoProto = OnnxExporter.export_value_info_proto(tensor, False)
    return info


def _infer_standard(graph: gs.Graph) -> int:
    inferred = libraries.infer_shapes(weightless_model(graph))
    tensors = graph.tensors()
    learned = 0
    for info in [*inferred.graph.value_info, *inferred.graph.output]:
        tensor = tensors.get(info.name)
        if isinstance(tensor, gs.Variable) and info.type.HasField("tensor_type"):
            learned += _learn(tensor, *_type_and_shape(info.type.tensor_type))
    return learned


def _infer_dialect(graph: gs.Graph) -> int:
    learned = 0
    for node in graph.nodes:
        if node.domain == dialect.DOMAIN and node.inputs[0].shape is not None:
            for tensor, (dtype, shape) in zip(node.outputs, dialect.infer(node), strict=True):
                learned += _learn(tensor, dtype, shape)
    return learned


def _type_and_shape(proto: onnx.TypeProto.Tensor) -> tuple[Any, list[Any] | None]:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(proto.elem_type) if proto.elem_type else None
    if not proto.HasField("shape"):
        return dtype, None
    return dtype, [d.dim_value if d.HasField("dim_value") else (d.dim_param or None) for d in proto.shape.dim]


def _learn(tensor: gs.Variable, dtype: Any, shape: Sequence[Any] | None) -> bool:
    """Fill in what is unknown of `tensor`; a number also replaces a symbol. Returns whether anything changed."""
    before = (tensor.dtype, None if tensor.shape is None else list(tensor.shape))
    if tensor.dtype is None:
        tensor.dtype = dtype
    if shape is not None:
        known = tensor.shape if tensor.shape is not None and len(tensor.shape) == len(shape) else [None] * len(shape)
        tensor.shape = [
            new if isinstance(new, int) or old is None else old for old, new in zip(known, shape, strict=True)
        ]
    return before != (tensor.dtype, None if tensor.shape is None else list(tensor.shape))


def _constants_from_nodes(graph: gs.Graph) -> None:
    """Replace Constant nodes by constants, so that passes handle one form only."""
    for node in [n for n in graph.nodes if n.op == "Constant" and n.domain is None]:
        value = _constant_value(node.attrs)
        output = node.outputs[0]
        if value is None or any(output is t for t in graph.outputs):
            continue
        tensor = gs.Constant(output.name, value)
        for user in list(output.outputs):
            user.inputs = [tensor if t is output else t for t in user.inputs]
        node.outputs.clear()
    graph.nodes = [n for n in graph.nodes if n.op != "Constant" or n.outputs]


def _forget_negative_sizes(graph: gs.Graph) -> None:
    """Make sizes of -1 unknown: some exporters write them for sizes that they do not know."""
    for tensor in [*graph.tensors().values(), *graph.inputs, *graph.outputs]:
        if isinstance(tensor, gs.Variable) and tensor.shape is not None:
            tensor.shape = [None if isinstance(size, int) and size < 0 else size for size in tensor.shape]


def _make_dense(graph: gs.Graph) -> None:
    """Replace sparse initializers by dense ones, so that passes handle one form only."""
    for tensor in graph.tensors().values():
        if isinstance(tensor, gs.Constant) and isinstance(tensor._values, SparseValues):
            proto = tensor._values.tensor
            flat = np.zeros(math.prod(proto.dims), onnx.helper.tensor_dtype_to_np_dtype(proto.values.data_type))
            indices = onnx.numpy_helper.to_array(proto.indices)
            if indices.ndim == 2:
                indices = np.ravel_multi_index(tuple(indices.T), tuple(proto.dims))
            flat[indices] = onnx.numpy_helper.to_array(proto.values)
            tensor.values = flat.reshape(tuple(proto.dims))


def _constant_value(attrs: dict[str, Any]) -> np.ndarray | None:
    for key, dtype in (
        ("value_int", np.int64),
        ("value_ints", np.int64),
        ("value_float", np.float32),
        ("value_floats", np.float32),
    ):
        if key in attrs:
            return np.array(attrs[key], dtype)
    value = attrs.get("value")
    return value.values if isinstance(value, gs.Constant) else None


def _without_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    """Inline the functions of other domains, and drop those of the dialect, whose bodies segc has."""
    foreign = [f for f in model.functions if f.domain != dialect.DOMAIN]
    del model.functions[:]
    if not foreign:
        return model
    model.functions.extend(foreign)
    return libraries.inline_functions(model)
