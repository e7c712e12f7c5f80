"""ONNX Runtime in place of an engine that this machine cannot run: on the very graph the engine was made from."""

from __future__ import annotations

import numpy as np
import onnx

from segc.errors import CompileError
from segc.targets.base import Session


class StandIn:
    """Runs the legalized graph as it is, without ONNX Runtime's own optimizations."""

    def __init__(self, model: onnx.ModelProto, threads: int = 0) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what fails is raised, with the same text
        options.intra_op_num_threads = threads
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            self._session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the runtime's exception types are private
            raise CompileError("ONNX Runtime cannot run the legalized graph", because=str(error)) from error
        self._input = self._session.get_inputs()[0].name

    def run(self, x: np.ndarray) -> np.ndarray:
        """x: float32 (N, C, H, W). Returns the only output."""
        return np.asarray(self._session.run(None, {self._input: x})[0])


def stand_in(model: onnx.ModelProto, threads: int) -> Session:
    """A session on `model`. Raises CompileError when ONNX Runtime does not take the graph."""
    return StandIn(model, threads)
