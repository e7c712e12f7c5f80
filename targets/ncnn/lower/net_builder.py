"""From a graph to a net: each node by its row, then Splits, fusions and a last look at every contract."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from segc.errors import CompileError
from segc.graph import source_info
from segc.targets.ncnn.lower import ops_maps, ops_math, ops_matrix, ops_movement, ops_selection  # noqa: F401 - they register
from segc.targets.ncnn.lower.lowering import Emission
from segc.targets.ncnn.net.fuse import fuse
from segc.targets.ncnn.net.layer_checks import check
from segc.targets.ncnn.net.net import Blob, Layer, Net, Refused, agree, text
from segc.targets.ncnn.net.splits import insert_splits


def build(graph: gs.Graph) -> Net:
    """The finished net of a legal graph. Raises CompileError with the node at fault."""
    emission = Emission()
    for tensor in graph.inputs:
        emission.input(tensor)
    for node in graph.nodes:
        try:
            emission.spell(node)
        except Refused as reason:
            raise CompileError(
                f"ncnn cannot express {node.op} '{node.name}'", because=str(reason), where=str(source_info.of(node))
            ) from reason
    net = emission.net
    net.outputs = [emission.blob(tensor) for tensor in graph.outputs]
    fuse(net)
    remove_unread(net)
    insert_splits(net)
    verify(net)
    return net


def remove_unread(net: Net) -> None:
    """Drop layers whose blobs nobody reads."""
    wanted = {id(blob) for blob in net.outputs}
    kept: list[Layer] = []
    for layer in reversed(net.layers):
        if layer.type == "Input" or any(id(blob) in wanted for blob in layer.outputs):
            kept.append(layer)
            wanted.update(id(blob) for blob in layer.inputs)
    net.layers = kept[::-1]


def verify(net: Net) -> None:
    """Hold the finished net to every contract again: order, names, one reader a blob, shapes. Raises CompileError."""
    made: dict[int, Blob] = {}
    names: set[str] = set()
    read: set[int] = set()
    for layer in net.layers:
        for blob in layer.inputs:
            if id(blob) not in made:
                raise _defect(layer, f"reads '{blob.name}' before it is made")
            if id(blob) in read:
                raise _defect(layer, f"reads '{blob.name}', which another layer reads without a Split")
        read.update(id(blob) for blob in layer.inputs)
        for blob, shape in zip(layer.outputs, _checked(layer), strict=True):
            if blob.name in names:
                raise _defect(layer, f"makes a second '{blob.name}'")
            if not agree(blob.shape, shape):
                raise _defect(layer, f"makes '{blob.name}' of {text(shape)}, {text(blob.shape)} was expected")
            names.add(blob.name)
            made[id(blob)] = blob


def _checked(layer: Layer) -> list[tuple[int | None, ...]]:
    try:
        return check(layer)
    except Refused as reason:
        raise _defect(layer, str(reason)) from reason


def _defect(layer: Layer, reason: str) -> CompileError:
    where = f"node '{layer.node}'" if layer.node else ""
    return CompileError(f"ncnn layer {layer.type} '{layer.name}' breaks its contract", because=reason, where=where)
