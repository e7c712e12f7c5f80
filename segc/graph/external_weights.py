"""Large weights: read through a memory map, written as a stream.

A model of several gigabytes has its weights in files beside it (ONNX's external data). Reading maps these files, so
that a weight which no pass reads is never loaded. Writing copies each weight once, in blocks, into one file beside the
model, and releases the pages that it has read, so that memory does not grow with the model.
"""

from __future__ import annotations

import logging
import math
import mmap
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
import onnx.external_data_helper
import onnx.helper
import onnx.numpy_helper
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter
from onnx_graphsurgeon.ir.tensor import LazyValues

from segc.errors import Code, FileError
from segc.graph import ir
from segc.graph.onnx_reader import external_tensors, parse_model, unreadable_data

_log = logging.getLogger(__name__)

EMBED = 1_900_000_000  # bytes of weights that fit in a protobuf, which has at most 2 GiB, with room for the graph
INLINE = 1024  # elements: constants of at most this size stay in the graph, where shape inference reads them
ALIGN = 4096  # bytes: weights in the data file start at page boundaries, so that runtimes can map them
BLOCK = 1 << 24  # bytes copied at a time


def fits_one_file(model: onnx.ModelProto) -> bool:
    """Whether the model fits in a protobuf of 2 GiB. Counts weights only: `ByteSize` would serialize the model."""
    return sum(len(t.raw_data) for t in model.graph.initializer) < EMBED


def read_graph(path: Path) -> gs.Graph:
    """Read the graph of an ONNX file. External weights are mapped, not loaded. Raises FileError or SourceError."""
    model = parse_model(path)
    external = external_tensors(model, path)
    initializers = {id(t) for t in model.graph.initializer}
    try:
        mapped = {}
        maps: dict[Path, mmap.mmap] = {}
        for tensor in external:
            if id(tensor) in initializers and _mappable(tensor):
                mapped[tensor.name] = _map(tensor, path.parent.resolve(), maps)
            else:
                onnx.external_data_helper.load_external_data_for_tensor(tensor, str(path.parent.resolve()))
                tensor.data_location = onnx.TensorProto.DEFAULT
                del tensor.external_data[:]
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise unreadable_data(path, error) from error
    graph = ir.from_model(model)
    for constant in graph.tensors().values():
        if isinstance(constant, gs.Constant) and constant.name in mapped:
            constant._values, constant.data_location = mapped[constant.name], None
    return graph


def _mappable(tensor: onnx.TensorProto) -> bool:
    """Whether the tensor's bytes in the file are those of a NumPy array: types smaller than a byte are packed."""
    packed = {"INT4", "UINT4", "FLOAT4E2M1", "INT2", "UINT2"}
    return onnx.TensorProto.DataType.Name(tensor.data_type) not in packed and math.prod(tensor.dims) > 0


def _map(tensor: onnx.TensorProto, root: Path, maps: dict[Path, mmap.mmap]) -> np.ndarray:
    info = onnx.external_data_helper.ExternalDataInfo(tensor)
    file = root / info.location
    if file not in maps:
        with file.open("rb") as stream:
            maps[file] = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    count = math.prod(tensor.dims)
    if info.length and info.length != count * dtype.itemsize:
        raise ValueError(f"tensor '{tensor.name}' has {info.length} bytes; its shape needs {count * dtype.itemsize}")
    return np.frombuffer(maps[file], dtype, count, info.offset or 0).reshape(tuple(tensor.dims))


def weight_bytes(graph: gs.Graph) -> int:
    """The size in bytes of all constants that nodes read."""
    return sum(_nbytes(t) for t in graph.tensors().values() if isinstance(t, gs.Constant))


def _nbytes(constant: gs.Constant) -> int:
    dtype = constant.dtype
    if isinstance(dtype, int):  # GraphSurgeon keeps ONNX's type number if NumPy has no such type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(dtype)
    return int(math.prod(constant.shape) * np.dtype(dtype).itemsize)


def write_graph(graph: gs.Graph, path: Path, *, embed: int = EMBED, force: bool = False) -> list[Path]:
    """Write `graph` to `path`, and its weights to `path`.data if they have more than `embed` bytes together.

    Returns the files written. Each file appears complete or not at all, the model last. Raises FileError if a file
    exists and `force` is not given, or if the system cannot write it.
    """
    external = weight_bytes(graph) > embed
    data = path.with_name(f"{path.name}.data")
    require_free(path, force=force)
    if external:
        require_free(data, force=force)
    with _file_errors(path), _staged(path, external) as (staged, staged_data):
        model = _with_external_data(graph, data.name, staged_data) if external else ir.to_model(graph, origins=True)
        staged.write_bytes(model.SerializeToString(deterministic=True))
        if external:
            staged_data.replace(data)
        staged.replace(path)
    files = [path, data] if external else [path]
    for file in files:
        _log.info("wrote %s, %d bytes", file, file.stat().st_size)
    return files


def require_free(path: Path, *, force: bool) -> None:
    """Raise FileError if writing `path` would replace something, or cannot succeed."""
    if path.is_dir():
        raise FileError(f"'{path}' is a folder", code=Code.DESTINATION_TAKEN, so="give the name of a file with -o")
    if path.exists() and not force:
        raise FileError(
            f"'{path}' exists already",
            code=Code.DESTINATION_TAKEN,
            so="choose another name with -o, or replace it with --force",
        )
    if not path.parent.is_dir():
        raise FileError(
            f"there is no folder '{path.parent}'",
            code=Code.NOT_FOUND,
            so="create it first, or choose another name with -o",
        )


@contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FileError(
            f"'{path}' cannot be written",
            code=Code.UNWRITABLE,
            because=error.strerror or str(error),
            so="free some space, or choose a folder you can write to with -o",
        ) from error


@contextmanager
def _staged(path: Path, external: bool) -> Iterator[tuple[Path, Path]]:
    """Temporary names beside `path` for the model and its data; files that still have them at the end are deleted."""
    stem = f".{path.name}.segc-{secrets.token_hex(4)}"
    files = path.with_name(stem), path.with_name(f"{stem}.data")
    try:
        yield files
    finally:
        for file in files:
            file.unlink(missing_ok=True)


def _with_external_data(graph: gs.Graph, location: str, data: Path) -> onnx.ModelProto:
    """The model with its weights written to the file `data`. The model refers to them at `location`."""
    model = ir.weightless_model(graph, INLINE)
    model.producer_name = ir.PRODUCER
    ir.add_origins(model, graph)
    ir.add_functions(model, graph)
    tensors, inputs = graph.tensors(), {t.name for t in graph.inputs}
    weights = [tensors[i.name] for i in model.graph.input if i.name not in inputs]
    kept = [i for i in model.graph.input if i.name in inputs]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    with data.open("wb") as stream:
        for constant in weights:
            if not _is_plain(constant):
                model.graph.initializer.append(OnnxExporter.export_tensor_proto(constant))
                continue
            offset = -(-stream.tell() // ALIGN) * ALIGN
            stream.seek(offset)
            model.graph.initializer.append(_reference(constant, location, offset))
            _copy(constant, stream)
        stream.flush()
        os.fsync(stream.fileno())
    return model


def _is_plain(constant: gs.Constant) -> bool:
    values = constant._values
    return not isinstance(values, LazyValues) or _mappable(values.tensor)


def _reference(constant: gs.Constant, location: str, offset: int) -> onnx.TensorProto:
    dtype = constant.dtype if isinstance(constant.dtype, int) else onnx.helper.np_dtype_to_tensor_dtype(constant.dtype)
    tensor = onnx.TensorProto(name=constant.name, data_type=dtype, dims=constant.shape)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", _nbytes(constant))):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def _copy(constant: gs.Constant, stream: BinaryIO) -> None:
    values = constant._values
    if isinstance(values, LazyValues):
        values = onnx.numpy_helper.to_array(values.tensor)
    whole = memoryview(np.ascontiguousarray(values).reshape(-1).view(np.uint8))  # type: ignore[arg-type]
    for start in range(0, len(whole), BLOCK):
        stream.write(whole[start : start + BLOCK])
        _release_pages(values)


def _release_pages(values: Any) -> None:
    """Tell the system to drop the pages of a mapped array from memory; a later access reads them again."""
    while isinstance(values, np.ndarray):
        values = values.base
    source = values.obj if isinstance(values, memoryview) else values
    if isinstance(source, mmap.mmap) and hasattr(source, "madvise"):
        source.madvise(mmap.MADV_DONTNEED)
