"""From a legal ONNX graph to a finished ncnn net: lower each node, fuse layers, insert Splits, check the result."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from segc.errors import Code, CompileError
from segc.graph import source_info
from segc.targets.ncnn.lower import ops_maps, ops_math, ops_matrix, ops_movement, ops_selection  # noqa: F401 - they register
from segc.targets.ncnn.lower.net_builder import NetBuilder
from segc.targets.ncnn.net.fuse import fuse
from segc.targets.ncnn.net.layer_checks import check
from segc.targets.ncnn.net.net import Layer, Net, Refused, Shape, compatible, shape_text
from segc.targets.ncnn.net.splits import insert_splits


def lower_graph(graph: gs.Graph) -> Net:
    """The net of a legal graph. Raises CompileError, which names the node that cannot be lowered."""
    builder = NetBuilder()
    for tensor in graph.inputs:
        builder.add_input(tensor)
    for node in graph.nodes:
        try:
            builder.lower(node)
        except Refused as refusal:
            raise CompileError(
                f"ncnn cannot express {node.op} '{node.name}'",
                code=Code.EMISSION,
                because=str(refusal),
                where=str(source_info.of(node)),
            ) from refusal
    net = builder.net
    net.outputs = [builder.blob(tensor) for tensor in graph.outputs]
    fuse(net)
    remove_dead_layers(net)
    insert_splits(net)
    verify(net)
    return net


def remove_dead_layers(net: Net) -> None:
    """Remove layers that no output of the net depends on; Input layers stay."""
    live = {id(blob) for blob in net.outputs}
    kept: list[Layer] = []
    for layer in reversed(net.layers):
        if layer.type == "Input" or any(id(blob) in live for blob in layer.outputs):
            kept.append(layer)
            live.update(id(blob) for blob in layer.inputs)
    net.layers = kept[::-1]


def verify(net: Net) -> None:
    """Check the finished net: order, unique names, one reader per blob, shapes. Raises CompileError."""
    defined: set[int] = set()
    names: set[str] = set()
    read: set[int] = set()
    for layer in net.layers:
        for blob in layer.inputs:
            if id(blob) not in defined:
                raise _invalid(layer, f"reads '{blob.name}', which no earlier layer computes")
            if id(blob) in read:
                raise _invalid(layer, f"reads '{blob.name}', which another layer reads without a Split")
        read.update(id(blob) for blob in layer.inputs)
        for blob, shape in zip(layer.outputs, _inferred_shapes(layer), strict=True):
            if blob.name in names:
                raise _invalid(layer, f"computes a second blob named '{blob.name}'")
            if not compatible(blob.shape, shape):
                expected = shape_text(blob.shape)
                raise _invalid(layer, f"computes '{blob.name}' as {shape_text(shape)}, {expected} was expected")
            names.add(blob.name)
            defined.add(id(blob))


def _inferred_shapes(layer: Layer) -> list[Shape]:
    try:
        return check(layer)
    except Refused as refusal:
        raise _invalid(layer, str(refusal)) from refusal


def _invalid(layer: Layer, reason: str) -> CompileError:
    where = f"node '{layer.node}'" if layer.node else ""
    return CompileError(
        f"ncnn layer {layer.type} '{layer.name}' fails its check", code=Code.EMISSION, because=reason, where=where
    )
