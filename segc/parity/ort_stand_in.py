"""ONNX Runtime as a stand-in for an engine that this machine cannot run: it runs the graph the engine was made from.

In float16 graphs, every rounding becomes explicit casts, because ONNX Runtime omits most roundings on CPUs.
"""

from __future__ import annotations

import gc

import onnx

from segc.graph import ir
from segc.passes.precision.materialize_fp16_rounding import MaterializeFp16Rounding
from segc.runtime.ort import OrtSession
from segc.targets.protocol import NamedSession


def _with_explicit_rounding(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` itself, or, if it has float16 weights, a copy with explicit rounding."""
    if not any(t.data_type == onnx.TensorProto.FLOAT16 for t in model.graph.initializer):
        return model
    graph = ir.from_model(onnx.ModelProto.FromString(model.SerializeToString()))
    ir.infer_shapes(graph)
    MaterializeFp16Rounding().run(graph)
    return ir.to_model(graph, functions=False)


def stand_in(model: onnx.ModelProto, threads: int) -> NamedSession:
    """A session on `model`. Raises CompileError if ONNX Runtime refuses the graph."""
    rounded = _with_explicit_rounding(model)
    content = rounded.SerializeToString()
    if rounded is not model:
        gc.collect()  # the rounded graph has reference cycles, which keep all weights in float32
    return OrtSession(content, threads, optimize=False, what="the legalized graph")
