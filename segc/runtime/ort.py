"""ONNX Runtime: every session of it in segc is made here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segc.errors import Code
from segc.runtime.guard import runtime_errors

if TYPE_CHECKING:
    import onnxruntime


def open_session(
    model: Path | bytes, *, threads: int = 0, optimize: bool = False, arena: bool = True
) -> onnxruntime.InferenceSession:
    """A session on the CPU, for a file's path or a serialized model. Raises what ONNX Runtime raises.

    threads: 0 leaves it to the runtime. optimize: let the runtime rewrite the graph. arena: keep freed memory for the
    next run; without it a session that runs once gives its memory back.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what fails is raised, with the same text
    options.intra_op_num_threads = threads
    options.enable_cpu_mem_arena = arena
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    source = str(model) if isinstance(model, Path) else model
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def run_once(content: bytes, outputs: list[str], feeds: Mapping[str, np.ndarray]) -> list[Any]:
    """Outputs of a serialized model, by a session that gives its memory back: arrays, or lists for sequences.

    Raises what ONNX Runtime raises.
    """
    return list(open_session(content, arena=False).run(outputs, dict(feeds)))


def outputs_of(model: Path | bytes, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All outputs by name, without the runtime's rewrites. Raises what ONNX Runtime raises."""
    session = open_session(model, arena=False)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def outputs_of_each(model: bytes, feeds: Sequence[Mapping[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
    """`outputs_of` for several inputs, by one session."""
    session = open_session(model, arena=False)
    names = [output.name for output in session.get_outputs()]
    return [dict(zip(names, session.run(names, dict(feed)), strict=True)) for feed in feeds]


class OrtSession:
    """A model in ONNX Runtime, see `open_session`. what: names it where it cannot be loaded, a CompileError."""

    def __init__(self, model: Path | bytes, threads: int, *, optimize: bool = True, what: str = "the engine") -> None:
        where = model.name if isinstance(model, Path) else ""
        with runtime_errors(f"ONNX Runtime cannot load {what}", Code.ENGINE_LOAD, where=where):
            self._session = open_session(model, threads=threads, optimize=optimize)
        self._inputs = [given.name for given in self._session.get_inputs()]
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, x: np.ndarray) -> np.ndarray:
        """x: float32 (N, C, H, W), or an image where the engine takes images. Returns the only output."""
        return np.asarray(self._session.run(None, {self._inputs[0]: x})[0])

    def run_named(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """All inputs by name to all outputs by name."""
        values = self._session.run(self._outputs, dict(inputs))
        return {name: np.asarray(value) for name, value in zip(self._outputs, values, strict=True)}
