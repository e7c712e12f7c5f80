"""Graphs of models, and what they compute as they are written."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from segc.graph import ir
from segc.passes.support import evaluate


def run(graph: gs.Graph, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """All outputs, by ONNX Runtime without its optimizations."""
    return list(evaluate.outputs(graph, feeds).values())


def graph_of(model: onnx.ModelProto) -> gs.Graph:
    """A copy of the model as a graph with types and shapes of all tensors."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = ir.from_model(copy)
    ir.infer_shapes(graph)
    return graph
