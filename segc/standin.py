"""ONNX Runtime in place of an engine that this machine cannot run: on the graph the engine was made from.

Where that graph computes in float16, its roundings are spelled out: on CPUs ONNX Runtime leaves most of them away.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from segc import ir
from segc.errors import CompileError
from segc.passes.spell_out_rounding import SpellOutRounding
from segc.targets.base import NamedSession


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
                _rounding(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the runtime's exception types are private
            raise CompileError("ONNX Runtime cannot run the legalized graph", because=str(error)) from error
        self._inputs = [given.name for given in self._session.get_inputs()]
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, x: np.ndarray) -> np.ndarray:
        """x: float32 (N, C, H, W). Returns the only output."""
        return np.asarray(self._session.run(None, {self._inputs[0]: x})[0])

    def run_named(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """All inputs by name to all outputs by name."""
        values = self._session.run(self._outputs, dict(inputs))
        return {name: np.asarray(value) for name, value in zip(self._outputs, values, strict=True)}


def _rounding(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model`, or where it has half precision a copy that rounds as it says."""
    if not any(t.data_type == onnx.TensorProto.FLOAT16 for t in model.graph.initializer):
        return model
    graph = ir.from_model(onnx.ModelProto.FromString(model.SerializeToString()))
    ir.infer_shapes(graph)
    SpellOutRounding().run(graph)
    return ir.to_model(graph, functions=False)


def stand_in(model: onnx.ModelProto, threads: int) -> NamedSession:
    """A session on `model`. Raises CompileError when ONNX Runtime does not take the graph."""
    return StandIn(model, threads)
