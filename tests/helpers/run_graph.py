"""Run a graph as it is written."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_graphsurgeon as gs

from segc.passes.support import evaluate


def run(graph: gs.Graph, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """All outputs, by ONNX Runtime without its optimizations."""
    return list(evaluate.outputs(graph, feeds).values())
