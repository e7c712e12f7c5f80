"""ONNX Runtime in place of an engine that this machine cannot run: on the graph the engine was made from.

Where that graph computes in float16, its roundings are materialized as casts: on CPUs ONNX Runtime omits most of them.
"""

from __future__ import annotations

import gc

import onnx

from segc.graph import ir
from segc.passes.precision.materialize_fp16_rounding import MaterializeFp16Rounding
from segc.runtime.ort import OrtSession
from segc.targets.protocol import NamedSession


def _rounding(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model`, or where it has half precision a copy that rounds as it says."""
    if not any(t.data_type == onnx.TensorProto.FLOAT16 for t in model.graph.initializer):
        return model
    graph = ir.from_model(onnx.ModelProto.FromString(model.SerializeToString()))
    ir.infer_shapes(graph)
    MaterializeFp16Rounding().run(graph)
    return ir.to_model(graph, functions=False)


def stand_in(model: onnx.ModelProto, threads: int) -> NamedSession:
    """A session on `model`. Raises CompileError when ONNX Runtime does not take the graph."""
    rounded = _rounding(model)
    content = rounded.SerializeToString()
    if rounded is not model:
        gc.collect()  # the graph that was rounded refers to itself, and holds all weights in float32
    return OrtSession(content, threads, optimize=False, what="the legalized graph")
