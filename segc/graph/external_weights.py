"""Large weights: read through a memory map, written as a stream.

A model of several gigabytes has its weights in files beside it (ONNX's external data). Reading maps these files, so
that a weight which no pass reads is never loaded. Writing copies each weight once, in blocks, into one file beside the
model, and releases the pages that it has read, so that memory does not grow with the model.

The data file is named after its content, and the model is renamed last: whenever the process ends, a model lies at its
destination whole, old or new, beside the data that belongs to it.
"""

from __future__ import annotations

import hashlib
import logging
import math
import mmap
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
import onnx.external_data_helper
import onnx.helper
import onnx.numpy_helper
import onnx_graphsurgeon as gs
from onnx.external_data_helper import ExternalDataInfo
from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter
from onnx_graphsurgeon.ir.tensor import LazyValues

from segc.errors import Code, FileError, SegcError
from segc.files import claims, published
from segc.files.errors import file_errors
from segc.files.interrupts import held
from segc.graph import ir, onnx_border
from segc.graph.onnx_reader import external_tensors, parse_model, unreadable_data

_log = logging.getLogger(__name__)

EMBED = 1_900_000_000  # bytes of weights that fit in a protobuf, which has at most 2 GiB, with room for the graph
INLINE = 1024  # elements: constants of at most this size stay in the graph, where shape inference reads them
ALIGN = 4096  # bytes: weights in the data file start at page boundaries, so that runtimes can map them
BLOCK = 1 << 24  # bytes copied at a time
DIGITS = 16  # of the content's digest in the name of a data file


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
                mapped[tensor.name] = _map(tensor, path, maps)
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


def _map(tensor: onnx.TensorProto, path: Path, maps: dict[Path, mmap.mmap]) -> np.ndarray:
    place = onnx_border.external(tensor, path)
    file = path.parent / place.location
    if file not in maps:
        with file.open("rb") as stream:
            maps[file] = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return np.frombuffer(maps[file], dtype, math.prod(tensor.dims), place.offset).reshape(tuple(tensor.dims))


def weight_bytes(graph: gs.Graph) -> int:
    """The size in bytes of all constants that nodes read."""
    return sum(_nbytes(t) for t in graph.tensors().values() if isinstance(t, gs.Constant))


def _nbytes(constant: gs.Constant) -> int:
    dtype = constant.dtype
    if isinstance(dtype, int):  # GraphSurgeon keeps ONNX's type number if NumPy has no such type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(dtype)
    return int(math.prod(constant.shape) * np.dtype(dtype).itemsize)


@dataclass
class Staged:
    """A model that is complete, in a file beside its destination, and its data file, which lies in place.

    The old model at the destination keeps its own data, since a data file is named after its content.
    """

    model: Path
    path: Path
    force: bool
    data: Path | None = None
    made: bool = False  # the data file was not there before
    notes: list[str] = field(default_factory=list)

    def publish(self) -> list[Path]:
        """Give the model its name, in one step; returns the files. Data that only the replaced model read is deleted.

        Raises FileError.
        """
        files = [self.path] if self.data is None else [self.path, self.data]
        require_free(self.path, force=self.force)
        with file_errors(f"'{self.path}'", self.path), held():
            self.notes += [f"'{file}' is no longer read by '{self.path}'" for file in _foreign_data(self.path)]
            former = _own_data(self.path) - set(files)
            if former:
                _note(self.model, former)
            self.model.replace(self.path)
            published.add(*files)
            claims.sync(self.path.parent)
            for file in former:
                _remove_unread(self.path, file.name)
        for file in files:
            _log.info("wrote %s, %d bytes", file, file.stat().st_size)
        return files


def write_graph(graph: gs.Graph, path: Path, *, embed: int = EMBED, force: bool = False) -> list[Path]:
    """Write `graph` to `path`, see `staged_graph`. Returns the files."""
    with staged_graph(graph, path, embed=embed, force=force) as staged:
        return staged.publish()


@contextmanager
def staged_graph(graph: gs.Graph, path: Path, *, embed: int = EMBED, force: bool = False) -> Iterator[Staged]:
    """Write `graph` beside `path`, for its `publish`; what is not published by the end of the block is deleted.

    Weights of more than `embed` bytes together go into `path`.DIGEST.data, where DIGEST is of the content. Raises
    FileError: something lies at `path` and `force` is not given, or the disk refuses.
    """
    require_free(path, force=force)
    errors = partial(file_errors, f"'{path}'", path, needed=partial(weight_bytes, graph))
    with ExitStack() as stack:
        with errors():
            model = stack.enter_context(claims.in_the_making(path, Path.touch))
            stack.callback(claims.remove, _notes_of(model))
            _clear(path)
        staged = Staged(model, path, force)
        with errors():
            if weight_bytes(graph) > embed:
                stack.callback(claims.remove, _data_of(model))
                stack.callback(_unless_published, staged)
                proto = _with_external_data(graph, staged)
            else:
                proto = ir.to_model(graph, origins=True)
            model.write_bytes(proto.SerializeToString(deterministic=True))
            claims.sync(model)
        del proto
        yield staged


def _data_of(model: Path) -> Path:
    """Where the weights of a model in the making are written until their digest is known."""
    return model.with_name(f"{model.name}.data")


def _notes_of(model: Path) -> Path:
    """Names the data files that the run of this model in the making put in place or will delete, until it is done."""
    return model.with_name(f"{model.name}.notes")


def _note(model: Path, files: Iterable[Path]) -> None:
    with _notes_of(model).open("a", encoding="utf-8") as notes:
        notes.writelines(f"{file.name}\n" for file in files)
        notes.flush()
        os.fsync(notes.fileno())


def _foreign_data(path: Path) -> list[Path]:
    """Data files with other names that the model at `path` reads; nobody but the user knows who else does."""
    try:
        model = parse_model(path)
        names = {ExternalDataInfo(tensor).location for tensor in external_tensors(model, path)}
    except (SegcError, ValueError):
        return []
    own = {file.name for file in _own_data(path)}
    return [path.parent / name for name in sorted(names - own)]


def _own_data(path: Path) -> set[Path]:
    """Data files named after `path` and their content that the model at `path` reads."""
    found = [file for file in path.parent.iterdir() if _data_name(path).fullmatch(file.name)]
    return {file for file in found if _mentions(path, file)}


def _data_name(path: Path) -> re.Pattern[str]:
    """What data files of `path` are called."""
    return re.compile(rf"{re.escape(path.name)}\.[0-9a-f]{{{DIGITS}}}\.data")


def _mentions(model: Path, data: Path) -> bool:
    """Whether the model's file has the name of the data file in it; True where the file cannot be read."""
    try:
        if not model.is_file() or model.stat().st_size == 0:
            return False
        with model.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(data.name.encode()) >= 0
    except OSError:
        return True


def _clear(path: Path) -> None:
    """Delete what runs that were killed left behind on their way to `path`."""
    for model in claims.left_over(path):
        claims.remove(model)
    for suffix in (".data", ".notes"):
        for file in claims.left_over(path, suffix):
            if file.with_suffix("").exists():  # its process runs
                continue
            if suffix == ".notes":
                for name in file.read_text(encoding="utf-8").splitlines():
                    _remove_unread(path, name)
            claims.remove(file)


def _remove_unread(path: Path, name: str) -> None:
    """Delete a data file beside `path`, named after it and its content, unless a model there reads it."""
    data = path.with_name(name)
    if _data_name(path).fullmatch(name) and not any(_mentions(m, data) for m in {path, *path.parent.glob("*.onnx")}):
        claims.remove(data)


def _unless_published(staged: Staged) -> None:
    """Take away the data file where this run made it and no model reads it."""
    if staged.data is not None and staged.made:
        _remove_unread(staged.path, staged.data.name)


def _name_after_content(staged: Staged, written: Path, digest: str) -> None:
    """Put the data file in place under a name of its content, unless it is there."""
    data = staged.path.with_name(f"{staged.path.name}.{digest[:DIGITS]}.data")
    with held():
        staged.data, staged.made = data, not data.exists()
        if not staged.made and data.stat().st_size == written.stat().st_size and _digest(data) == digest:
            return
        if staged.made:
            _note(staged.model, [data])
        written.replace(data)
        claims.sync(data.parent)


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


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


def _with_external_data(graph: gs.Graph, staged: Staged) -> onnx.ModelProto:
    """The model without its weights, which are written to the data file of `staged`."""
    model = ir.weightless_model(graph, INLINE)
    model.producer_name = ir.PRODUCER
    ir.add_origins(model, graph)
    ir.add_functions(model, graph)
    tensors, inputs = graph.tensors(), {t.name for t in graph.inputs}
    weights = [tensors[i.name] for i in model.graph.input if i.name not in inputs]
    kept = [i for i in model.graph.input if i.name in inputs]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    written = _data_of(staged.model)
    with written.open("wb") as file:
        stream = _Hashed(file)
        places = [_written(constant, stream) if _is_plain(constant) else None for constant in weights]
        file.flush()
        os.fsync(file.fileno())
    _name_after_content(staged, written, stream.digest.hexdigest())
    assert staged.data is not None
    for constant, offset in zip(weights, places, strict=True):
        model.graph.initializer.append(
            OnnxExporter.export_tensor_proto(constant)
            if offset is None
            else _reference(constant, staged.data.name, offset)
        )
    return model


class _Hashed:
    """A stream for writing that knows its place and the digest of all that went through it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.place, self.digest = file, 0, hashlib.sha256()

    def write(self, content: bytes | memoryview) -> None:
        """Append."""
        self._file.write(content)
        self.digest.update(content)
        self.place += len(content)


def _written(constant: gs.Constant, stream: _Hashed) -> int:
    """Append a weight at the next page; returns its offset in bytes."""
    stream.write(bytes(-stream.place % ALIGN))
    offset = stream.place
    _copy(constant, stream)
    return offset


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


def _copy(constant: gs.Constant, stream: _Hashed) -> None:
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
