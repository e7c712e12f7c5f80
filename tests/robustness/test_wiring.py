"""Odd but valid wiring through every target's pipeline: the same numbers, valid ONNX, no exception.

`SEGC_WIRED=2000 pytest tests/robustness/test_wiring.py` tries more models, those of the seeds from 0 on.
"""

from __future__ import annotations

import os

import numpy as np
import onnx
import onnx.checker
import onnx_graphsurgeon as gs
import pytest

from segc import targets
from segc.graph import ir
from segc.passes.support import evaluate
from segc.pipeline.stages import standard
from tests.helpers.random_wiring import HEIGHT, WIDTH, wired

COUNT = int(os.environ.get("SEGC_WIRED", "60"))
TOLERANCE = 3e-4  # relative; folded BatchNorms and reordered sums round differently
X = np.random.default_rng(0).standard_normal((1, 8, HEIGHT, WIDTH)).astype(np.float32)


@pytest.mark.parametrize("start", range(0, COUNT, 20))
def test_odd_wiring_keeps_the_numbers(start: int) -> None:
    for seed in range(start, start + 20):
        model = wired(seed)
        onnx.checker.check_model(model, full_check=True)
        want = evaluate.run_model(model, {"x": X})
        for name in targets.names():
            for shape in (None, (1, HEIGHT, WIDTH)):
                graph = graph_of(model)
                standard(targets.get(name), shape=shape, mask=False).run(graph, [])
                onnx.checker.check_model(ir.to_model(graph), full_check=True)
                error = evaluate.relative_error(want, evaluate.outputs(graph, {"x": X}))
                assert error <= TOLERANCE, f"seed {seed}, {name}, {shape}: {error}"


def graph_of(model: onnx.ModelProto) -> gs.Graph:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = ir.cleanup(ir.from_model(copy))
    ir.infer_shapes(graph)
    return graph
