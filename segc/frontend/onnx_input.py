"""The input of an ONNX file as float32 (N, C, H, W): images of bytes, channels last, further inputs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper

from segc.errors import Code, SourceError
from segc.frontend.onnx_edit import FileGraph, Shape, attribute, set_sizes, standard

_CHANNELS = (1, 3, 4)  # of images
_MOVES = {"Identity", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Slice"}
_POINTWISE = {"Cast", "Sub", "Div", "Mul", "Add", "Identity", "Clip", "QuantizeLinear", "DequantizeLinear"}
_FLOAT = onnx.TensorProto.FLOAT
_INTEGERS = {
    onnx.TensorProto.UINT8, onnx.TensorProto.INT8, onnx.TensorProto.UINT16, onnx.TensorProto.INT16,
    onnx.TensorProto.INT32, onnx.TensorProto.INT64,
}  # fmt: skip


@dataclass(frozen=True)
class Image:
    """The image input as the file has it. sizes: those of (N, C, H, W); None where the file leaves one open."""

    name: str
    sizes: Shape
    last: bool  # channels last

    def laid_out(self, sizes: tuple[int, int, int, int]) -> tuple[int, ...]:
        """(N, C, H, W) in the file's order."""
        n, c, h, w = sizes
        return (n, h, w, c) if self.last else sizes


def find(graph: FileGraph, path: Path) -> Image:
    """The image among the inputs. Raises SourceError."""
    inputs = graph.images()
    maps = [i for i in inputs if len(i.type.tensor_type.shape.dim) == 4]
    if not maps:
        raise _no_image(inputs, path)
    info = max(maps, key=lambda i: (i.type.tensor_type.elem_type in (_FLOAT, onnx.TensorProto.UINT8), i is maps[0]))
    kind = info.type.tensor_type.elem_type
    if kind not in (_FLOAT, onnx.TensorProto.DOUBLE, *_INTEGERS):
        raise SourceError(
            f"input '{info.name}' of '{path}' holds {onnx.TensorProto.DataType.Name(kind).lower()}",
            code=Code.NOT_SEGMENTATION, because="an image holds floats or integers", so="export it in float32",
        )  # fmt: skip
    dims = tuple(d.dim_value or None if d.HasField("dim_value") else None for d in info.type.tensor_type.shape.dim)
    dims = tuple(None if d is not None and d < 1 else d for d in dims)
    convolution, turned = _reader(graph, info.name)
    last = turned if convolution is not None or turned else dims[3] in _CHANNELS and dims[1] not in _CHANNELS
    n, a, b, c = dims
    sizes = (n, c, a, b) if last else dims
    if sizes[1] is None:
        sizes = (n, _channels_of(graph, convolution), *sizes[2:])
    return Image(info.name, sizes, last)


def require_alone(graph: FileGraph, image: Image, path: Path) -> None:
    """Refuse further inputs that the output needs. Raises SourceError."""
    inputs = graph.images()
    if [i.name for i in inputs] != [image.name]:
        raise _no_image(inputs, path)


def as_floats(graph: FileGraph, image: Image) -> list[str]:
    """Make the image input float32 (N, C, H, W), in place. Returns notes."""
    info = next(i for i in graph.graph.input if i.name == image.name)
    kind, notes, current = info.type.tensor_type.elem_type, [], image.name
    names: list[str | None] = [d.dim_param or d.dim_value or None for d in info.type.tensor_type.shape.dim]
    front: list[onnx.NodeProto] = []

    def put(op: str, inputs: list[str], **attributes: Any) -> str:
        made = graph.new(f"{image.name}_{op.lower()}")
        front.append(onnx.helper.make_node(op, inputs, [made], name=f"{op}/{made}", **attributes))
        return made

    at = (0, 3, 1, 2) if image.last else (0, 1, 2, 3)
    named: list[int | str | None] = [names[place] for place in at]
    if image.last or not isinstance(named[1], int):
        set_sizes(info, [named[0], image.sizes[1], *named[2:]])
    if image.last:
        current = put("Transpose", [current], perm=[0, 2, 3, 1])
        notes.append(f"input '{image.name}' has its channels last: the engine takes them before height and width")
    if kind != _FLOAT:
        info.type.tensor_type.elem_type = _FLOAT
        word = onnx.TensorProto.DataType.Name(kind).lower()
        notes.append(f"input '{image.name}' holds {word}: the engine takes the same values in float32")
        if kind not in _INTEGERS or not _retype(graph, image.name):
            if kind in _INTEGERS:
                limits = np.iinfo(onnx.helper.tensor_dtype_to_np_dtype(kind))
                bounds = [
                    graph.constant_named(f"{image.name}_{end}", np.array(value, np.float32))
                    for end, value in (("least", limits.min), ("most", limits.max))
                ]
                current = put("Clip", [put("Round", [current]), *bounds])
            current = put("Cast", [current], to=kind)
    if front:
        graph.rename_reads(image.name, current)
        rest = [onnx.NodeProto.FromString(node.SerializeToString()) for node in graph.graph.node]
        del graph.graph.node[:]
        graph.graph.node.extend([*front, *rest])
        graph.refresh()
    return notes


def _retype(graph: FileGraph, name: str) -> bool:
    """Let integers be floats up to the casts to float that read them, if nothing else does. Returns whether."""
    pending, moved = [name], {name}
    while pending:
        tensor = pending.pop()
        if any(info.name == tensor for info in graph.graph.output):
            return False
        for node in graph.readers(tensor):
            if standard(node, "Cast") and attribute(node, "to") == _FLOAT:
                continue
            if node.op_type not in _MOVES or not standard(node, node.op_type) or node.input[0] != tensor:
                return False
            for made in node.output:
                if made and made not in moved:
                    moved.add(made)
                    pending.append(made)
    graph.forget(moved)
    return True


def _reader(graph: FileGraph, name: str) -> tuple[onnx.NodeProto | None, bool]:
    """The first convolution of the image, and whether a Transpose before it moves the last axis to the channels."""
    pending, seen, turned = [name], {name}, False
    while pending:
        for node in graph.readers(pending.pop(0)):
            if standard(node, "Conv"):
                return node, turned
            turns = standard(node, "Transpose") and attribute(node, "perm") == [0, 3, 1, 2]
            turned |= turns
            if turns or standard(node, *_POINTWISE):
                more = [made for made in node.output if made not in seen]
                seen.update(more)
                pending += more
    return None, turned


def _channels_of(graph: FileGraph, convolution: onnx.NodeProto | None) -> int | None:
    """The channels that a convolution takes; None where that is not known."""
    if convolution is None:
        return None
    weight = graph.constant(convolution.input[1])
    known = weight is not None and weight.ndim == 4
    return weight.shape[1] * int(attribute(convolution, "group", 1)) if known and weight is not None else None


def _no_image(inputs: list[onnx.ValueInfoProto], path: Path) -> SourceError:
    found = ", ".join(f"{i.name} of rank {len(i.type.tensor_type.shape.dim)}" for i in inputs) or "none"
    return SourceError(
        f"'{path}' is not a segmentation model",
        code=Code.NOT_SEGMENTATION,
        because=f"one input (N, C, H, W) is needed, found {found}",
        so="export the model with the image as its only input, and what else it needs as constants",
    )
