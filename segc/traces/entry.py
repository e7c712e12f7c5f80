"""A kept trace as files: entry.json, the traced model, and arrays. Nothing in it is code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segc.bundle.canonical_json import canonical, sha256_of
from segc.bundle.typed import WrongValue, decode, encode
from segc.files.regular import read_regular
from segc.frontend.model import ModelInfo
from segc.traces.dependencies import Dependencies

FORMAT = 1
NAME, MODEL = "entry.json", "model.onnx"
_LARGEST = 1 << 33  # bytes of a file


@dataclass(frozen=True, kw_only=True)
class Found:
    """See segc.frontend.remembered.FoundBefore."""

    threshold: float | None
    shifted: bool
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """All that a compile asks of a module. arrays: key -> name of the file and its digest; see `Arrays`.

    module: the name of its class. shrinks: of the source's own way from a file to a mask, None where it has none.
    errors: by target, what measured passes cost: with and without them; None where they find nothing to do.
    """

    format: int
    info: ModelInfo
    notes: tuple[str, ...]
    module: str
    shrinks: bool | None
    found: Found | None
    model: str
    rewrites: tuple[str, ...]
    trace_notes: tuple[str, ...]
    limits: tuple[int, int, int] | None
    errors: Mapping[str, tuple[float, float] | None]
    arrays: Mapping[str, tuple[str, str]]
    dependencies: Dependencies


def write(entry: Entry, folder: Path) -> None:
    """Raises TypeError or ValueError for values that JSON does not have."""
    plain = encode(entry)
    decode(Entry, json.loads(canonical(plain)))
    (folder / NAME).write_bytes(canonical(plain))


def read(folder: Path) -> Entry | None:
    """The entry in a folder; None if there is none, or one that is not as segc writes it."""
    try:
        found: Entry = decode(Entry, json.loads(read_regular(folder / NAME, 1 << 28)))
    except (OSError, ValueError, RecursionError, TypeError, WrongValue):
        return None
    return found if found.format == FORMAT else None


def checked_bytes(folder: Path, name: str, digest: str) -> bytes | None:
    """The content of a file of an entry, if it is the one that was written."""
    if Path(name).name != name:
        return None
    try:
        content = read_regular(folder / name, _LARGEST)
    except OSError:
        return None
    return content if sha256_of(content) == digest else None


def save_array(folder: Path, name: str, value: np.ndarray) -> str:
    """Write an array, and return the digest of its file."""
    with (folder / name).open("wb") as file:
        np.save(file, value, allow_pickle=False)
    return sha256_of((folder / name).read_bytes())


def load_array(folder: Path, name: str, digest: str) -> Any:
    """The array, or None."""
    import io

    content = checked_bytes(folder, name, digest)
    try:
        return None if content is None else np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, OSError):
        return None
