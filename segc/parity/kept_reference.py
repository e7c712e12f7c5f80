"""In the child that runs a source file: one session of ONNX Runtime, and its last answer.

A trial run before anything is built from the file shows whether the file ends the process; the parity gate asks for the
same input again.
"""

from __future__ import annotations

import hashlib

import numpy as np
import onnx

from segc.errors import CompileError
from segc.passes.support.newer_opsets import NEWEST, at_most, opset_of
from segc.runtime.ort import OrtSession

_sessions: dict[str, OrtSession] = {}  # the one of the file, by its digest
_answers: dict[tuple[str, str], np.ndarray] = {}  # the last one, by file and input


def session_of(content: bytes, *, optimize: bool = False) -> OrtSession:
    """A session of a serialized model. One of an opset that ONNX Runtime lacks ops of becomes one of `NEWEST` first.

    Raises CompileError.
    """
    try:
        return OrtSession(content, 0, optimize=optimize, what="the source file")
    except CompileError:
        model = onnx.ModelProto.FromString(content)
        if opset_of(model) <= NEWEST:
            raise
        lowered = at_most(model, NEWEST)
        return OrtSession(lowered.SerializeToString(), 0, optimize=optimize, what="the source file")


def has(key: str) -> bool:
    """Whether the session of a file is here."""
    return key in _sessions


def load(key: str, content: bytes) -> None:
    """Make the session of a serialized model; one of another file goes. Raises CompileError."""
    _sessions.clear()
    _sessions[key] = session_of(content)


def run_rewritten(content: bytes, x: np.ndarray) -> np.ndarray:
    """The output of a serialized model after ONNX Runtime's own rewrites. Raises CompileError."""
    return session_of(content, optimize=True).run(x)


def run(key: str, x: np.ndarray) -> np.ndarray:
    """The file's output for an input. Raises what ONNX Runtime raises."""
    asked = (key, f"{x.shape} {hashlib.sha256(x.tobytes()).hexdigest()}")
    if asked not in _answers:
        answer = _sessions[key].run(x)
        _answers.clear()
        _answers[asked] = answer
    return _answers[asked]
