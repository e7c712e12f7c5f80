"""ONNX Runtime: every session of it in segc is made here."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segc.errors import Code
from segc.runtime.guard import runtime_errors

if TYPE_CHECKING:
    import onnxruntime


_KERNEL = "_kernel_time"  # how names of the profiler's events end


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


def profiled(model: Path, feeds: Mapping[str, np.ndarray], threads: int, runs: int) -> list[NodeTime]:
    """Times of the nodes that are left after ONNX Runtime's rewrites, by its own profiler, after a run that warms up.

    Raises what ONNX Runtime raises.
    """
    import onnxruntime

    with tempfile.TemporaryDirectory(prefix="segc-") as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = threads
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "times")
        session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        for _ in range(runs + 1):
            session.run(None, dict(feeds))
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    found: dict[str, NodeTime] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_KERNEL):
            name = event["name"].removesuffix(_KERNEL)
            found.setdefault(name, NodeTime(name, event["args"]["op_name"], [])).microseconds.append(event["dur"])
    return list(found.values())


@dataclass(frozen=True)
class NodeTime:
    """microseconds: of each run, the first of which warms up."""

    name: str
    op: str
    microseconds: list[float]


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
