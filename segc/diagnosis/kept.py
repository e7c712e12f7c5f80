"""What `segc bisect` leaves behind: the smallest model, its numbers, and a script that shows the difference."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx.helper

from segc.bundle.canonical_json import canonical
from segc.errors import Code, FileError
from segc.files.errors import file_errors
from segc.files.whole import write_all
from segc.graph.libraries import infer_shapes
from segc.parity.bisect import Pattern
from segc.runtime.ort import outputs_of
from segc.targets.protocol import Settings

RESULT, SCRIPT = "result.json", "show.py"
_MODEL, _BEFORE, _INPUTS, _EXPECTED = "part.onnx", "before.onnx", "inputs.npz", "expected.npy"

_SCRIPTS = Path(__file__).with_name("scripts")


def require_free(folder: Path) -> None:
    """Refuse a folder that holds something else than an earlier result. Raises FileError."""
    if folder.exists() and not (folder.is_dir() and ((folder / RESULT).is_file() or not any(folder.iterdir()))):
        raise FileError(
            f"'{folder}' exists", code=Code.DESTINATION_TAKEN, because="it is no earlier result of segc bisect",
            so="choose another folder with -o",
        )  # fmt: skip


def of_runtime(pattern: Pattern, target: str, settings: Settings, limit: float) -> dict[str, bytes]:
    """The files of a part that a runtime computes wrongly."""
    (want,) = outputs_of(pattern.model.SerializeToString(), {pattern.model.graph.input[0].name: pattern.x}).values()
    script = (_SCRIPTS / "in_runtime.py.txt").read_text().format(
        target=target, words=str(pattern.fault), precision=settings.precision, options=dict(settings.options),
        threads=max(settings.threads, 1), limit=limit,
    )  # fmt: skip
    given = {pattern.model.graph.input[0].name: pattern.x}
    return _files(pattern.model, given, want) | {SCRIPT: script.encode()}


def of_pass(
    name: str, before: onnx.ModelProto, after: onnx.ModelProto, inputs: Mapping[str, np.ndarray], expected: np.ndarray
) -> dict[str, bytes]:
    """The files of a part that a pass changed: the part before and after it."""
    files = _files(after, inputs, expected)
    return files | {
        _BEFORE: _content(before),
        SCRIPT: (_SCRIPTS / "in_pass.py.txt").read_text().format(name=name).encode(),
    }


def of_node(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray], expected: np.ndarray) -> dict[str, bytes]:
    """The files of a part that is refused."""
    return _files(model, inputs, expected)


def write(folder: Path, files: Mapping[str, bytes], result: Mapping[str, object]) -> None:
    """Write the files and result.json into a folder, which is made. Raises FileError."""
    with file_errors(f"'{folder}'", folder):
        folder.mkdir(parents=True, exist_ok=True)
    plain = canonical(json.loads(json.dumps(result)))
    write_all({folder / name: content for name, content in ({**files, RESULT: plain}).items()})


def _files(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray], expected: np.ndarray) -> dict[str, bytes]:
    given, wanted = io.BytesIO(), io.BytesIO()
    np.savez(given, **inputs)  # type: ignore[arg-type]
    np.save(wanted, expected)
    return {_MODEL: _content(model), _INPUTS: given.getvalue(), _EXPECTED: wanted.getvalue()}


def _content(model: onnx.ModelProto) -> bytes:
    return bytes(infer_shapes(model).SerializeToString(deterministic=True))
