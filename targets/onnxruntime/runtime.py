"""Loading and running models in ONNX Runtime. Every session of ONNX Runtime in segc is made here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from segc.errors import CompileError
from segc.targets.protocol import NamedSession, Package, Runtime

FILE = "model.onnx"


class OrtSession:
    """A model in ONNX Runtime: a file's path, or the serialized model. optimize: let the runtime rewrite it."""

    def __init__(self, model: Path | bytes, threads: int, *, optimize: bool = True, what: str = "the engine") -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what fails is raised, with the same text
        options.intra_op_num_threads = threads
        if not optimize:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        source, where = (str(model), model.name) if isinstance(model, Path) else (model, "")
        try:
            self._session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime's exception types are private
            raise CompileError(f"ONNX Runtime cannot load {what}", because=str(error), where=where) from error
        self._inputs = [given.name for given in self._session.get_inputs()]
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, x: np.ndarray) -> np.ndarray:
        """x: float32 (N, C, H, W), or an image where the engine takes images. Returns the only output."""
        return np.asarray(self._session.run(None, {self._inputs[0]: x})[0])

    def run_named(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """All inputs by name to all outputs by name."""
        values = self._session.run(self._outputs, dict(inputs))
        return {name: np.asarray(value) for name, value in zip(self._outputs, values, strict=True)}


def load(directory: Path, _options: Mapping[str, Any], threads: int) -> NamedSession:
    """The engine that `emit` wrote into `directory`."""
    return OrtSession(directory / FILE, threads)


RUNTIME = Runtime(load, Package("onnxruntime", "onnxruntime", extra="onnxruntime"), multi_io=True, concurrent=True)
