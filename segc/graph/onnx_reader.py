"""Read ONNX files and find their external data."""

from __future__ import annotations

import math
from pathlib import Path

import onnx
import onnx.checker
import onnx.external_data_helper
import onnx.helper
from google.protobuf.message import DecodeError

from segc.errors import Code, FileError, SourceError
from segc.files.regular import read_regular
from segc.graph import onnx_border
from segc.graph.node_order import sort_nodes


def read_model(path: Path) -> onnx.ModelProto:
    """Read a model with its external data. Raises FileError or SourceError."""
    model = parse_model(path)
    if external_tensors(model, path):
        try:
            onnx.external_data_helper.load_external_data_for_model(model, str(path.parent.resolve()))
        except (OSError, ValueError, onnx.checker.ValidationError) as error:
            raise unreadable_data(path, error) from error
    return model


def parse_model(path: Path) -> onnx.ModelProto:
    """The model as its own file has it, checked, nodes in order: external data stays where it is.

    Raises FileError or SourceError.
    """
    try:
        content = read_regular(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileError(
            f"no ONNX file at '{path}'", code=Code.NOT_FOUND, so="give the path of an .onnx file"
        ) from error
    except OSError as error:
        raise FileError(
            f"'{path}' cannot be read", code=Code.UNREADABLE, because=error.strerror or str(error)
        ) from error
    if not content:
        raise SourceError(f"'{path}' is empty (0 bytes)", code=Code.NOT_ONNX, so="export or copy it again")
    try:
        model: onnx.ModelProto = onnx.ModelProto.FromString(content)
    except DecodeError as error:
        raise SourceError(
            f"'{path}' is not an ONNX file, or is cut off",
            code=Code.NOT_ONNX,
            because=str(error),
            so="export or copy it again",
        ) from error
    if not model.graph.node or not model.opset_import:
        raise SourceError(
            f"'{path}' is not an ONNX model",
            code=Code.NOT_ONNX,
            because="it holds no graph",
            so="export or copy it again",
        )
    onnx_border.check(model, path)
    _refuse_optional(model, path)
    sort_nodes(model)
    return model


def _refuse_optional(model: onnx.ModelProto, path: Path) -> None:
    """Refuse values of an optional type, for which graphs of tensors have no place. Raises SourceError."""
    graphs = list(onnx_border.graphs(model.graph))
    infos = (info for graph in graphs for info in (*graph.input, *graph.output))
    named = [info.name for info in infos if info.type.WhichOneof("value") == "optional_type"]
    nodes = [node for graph in graphs for node in graph.node] + [n for f in model.functions for n in f.node]
    named += [node.output[0] for node in nodes if node.op_type == "Optional" and node.domain in ("", "ai.onnx")]
    if named:
        raise SourceError(
            f"'{path}' has values of an optional type",
            code=Code.SOURCE,
            because=f"'{named[0]}' may hold a tensor or nothing; segc compiles graphs of tensors",
            so="export the model without them",
        )


def external_tensors(model: onnx.ModelProto, path: Path) -> list[onnx.TensorProto]:
    """Tensors with external data, all of which lies in files below the model's folder. Raises SourceError."""
    found = [t for t in onnx_border.tensors(model) if onnx.external_data_helper.uses_external_data(t)]
    for tensor in found:
        onnx_border.external(tensor, path)
    return found


def unreadable_data(path: Path, error: Exception) -> SourceError:
    """The error for external data that exists but cannot be used."""
    return SourceError(
        f"external data of '{path}' cannot be read",
        code=Code.ONNX_EXTERNAL_DATA,
        because=str(error),
        so="export the model again, or copy the data file again",
    )


def skeleton(model: onnx.ModelProto, most: int = 1024) -> onnx.ModelProto:
    """The model with initializers of more than `most` values as inputs of their type: for checks that read no weights.

    Cost: the same for 1 MB and for 1 GB of weights.
    """
    made = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions)
    graph = made.graph
    graph.name = model.graph.name
    for name in ("node", "input", "output", "value_info", "sparse_initializer"):
        getattr(graph, name).extend(getattr(model.graph, name))
    known = {info.name for info in graph.input}
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= most:
            graph.initializer.append(tensor)
        elif tensor.name not in known:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return made
