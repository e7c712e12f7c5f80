"""Read ONNX files and find their external data."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx.checker
import onnx.external_data_helper
from google.protobuf.message import DecodeError

from segc.errors import Code, FileError, SourceError


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
    """Read the model file alone, without external data. Raises FileError or SourceError."""
    if not path.is_file():
        because = "it is a folder" if path.is_dir() else ""
        raise FileError(
            f"no ONNX file at '{path}'", code=Code.NOT_FOUND, because=because, so="give the path of an .onnx file"
        )
    if path.stat().st_size == 0:
        raise SourceError(
            f"'{path}' is empty (0 bytes)", code=Code.NOT_ONNX, so="export the model or copy the file again"
        )
    try:
        model: onnx.ModelProto = onnx.ModelProto.FromString(path.read_bytes())
    except OSError as error:
        raise FileError(
            f"'{path}' cannot be read",
            code=Code.UNREADABLE,
            because=error.strerror or str(error),
            so="check the permissions of the file and of its folder",
        ) from error
    except DecodeError as error:
        raise SourceError(
            f"'{path}' is not an ONNX file, or is truncated",
            code=Code.NOT_ONNX,
            because=str(error),
            so="export the model or copy the file again",
        ) from error
    if not model.graph.node or not model.opset_import:
        raise SourceError(
            f"'{path}' is not an ONNX model",
            code=Code.NOT_ONNX,
            because="it contains no graph",
            so="export the model or copy the file again",
        )
    return model


def external_tensors(model: onnx.ModelProto, path: Path) -> list[onnx.TensorProto]:
    """The tensors with external data. Raises SourceError unless all of it is in files below the model's folder."""
    root = path.parent.resolve()
    external = [
        t for t in onnx.external_data_helper._get_all_tensors(model) if onnx.external_data_helper.uses_external_data(t)
    ]
    for tensor in external:
        location = next((e.value for e in tensor.external_data if e.key == "location"), "")
        file = root / location
        if Path(location).is_absolute() or not file.resolve().is_relative_to(root):
            raise SourceError(
                f"external data of '{path}' points outside its folder",
                code=Code.ONNX_EXTERNAL_DATA,
                because=f"tensor '{tensor.name}' is at '{location}'",
                so="move the data file beside the model and export again, or save the model as a single file",
            )
        if not file.is_file():
            raise SourceError(
                f"external data of '{path}' is missing",
                code=Code.ONNX_EXTERNAL_DATA,
                because=f"tensor '{tensor.name}' should be in '{location}'",
                so=f"copy '{location}' beside the model",
            )
    return external


def unreadable_data(path: Path, error: Exception) -> SourceError:
    """The error for external data that exists but cannot be used."""
    return SourceError(
        f"external data of '{path}' cannot be read",
        code=Code.ONNX_EXTERNAL_DATA,
        because=str(error),
        so="export the model again, or copy the data file again",
    )
