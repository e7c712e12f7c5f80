"""Random segmentation graphs through every pipeline: the same numbers, valid ONNX, no crash.

`SEGC_FUZZ=2000 pytest tests/test_fuzz.py` is the documented long run, with new graphs every time; without it 200 graphs
are tried, the same every time.
"""

from __future__ import annotations

import os

import numpy as np
import onnx
import onnx.checker
import onnx_graphsurgeon as gs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segc import targets
from segc.graph import ir
from segc.passes.inputs.specialize_shapes import SpecializeShapes
from segc.passes.support import evaluate
from segc.pipeline.hooks import CheckInvariants
from segc.pipeline.stages import standard
from tests.helpers.random_models import models
from tests.helpers.run_graph import graph_of

COUNT = int(os.environ.get("SEGC_FUZZ", "200"))
TOLERANCE = 2e-4  # relative; folding BatchNorm into a Conv, and reordering sums, round differently
SIZES = ((17, 23), (32, 32), (9, 40))
pytestmark = pytest.mark.filterwarnings("ignore")


@settings(
    max_examples=COUNT, deadline=None, derandomize="SEGC_FUZZ" not in os.environ, print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)  # fmt: skip
@given(models(), st.booleans(), st.booleans(), st.sampled_from(SIZES), st.sampled_from((1, 2)))
def test_every_pipeline_keeps_the_numbers(
    model: onnx.ModelProto, dynamic: bool, mask: bool, size: tuple[int, int], batch: int
) -> None:
    tried = [(batch, *size)] if not dynamic else [(batch, *size), (1, 32, 19), (2, 13, 32)]
    original = graph_of(model)
    expected = {shape: run(original, shape) for shape in tried}
    threshold = 0.5 if original.outputs[0].shape[1] == 1 else None
    for name in targets.names():
        graph = graph_of(model)
        before = len(graph.nodes)
        single = takes_single_images(targets.get(name))
        shape = None if dynamic else (1 if single else batch, *size)
        pipeline = standard(targets.get(name), shape=shape, mask=mask, threshold=threshold)
        results = pipeline.run(graph, [CheckInvariants(pipeline)])
        assert len(results) == len(pipeline.passes)
        onnx.checker.check_model(ir.to_model(graph), full_check=True)
        if not dynamic and not any(n.domain for n in original.nodes) and not mask and not targets.get(name).legalize:
            assert len(graph.nodes) <= before
        for shape, want in expected.items():
            got = run(graph, shape, single=single)
            if mask:
                compare_mask(want, got, threshold)
            else:
                assert want.shape == got.shape
                assert evaluate.relative_error({"y": want}, {"y": got}) <= TOLERANCE, (name, shape)


def takes_single_images(target: targets.Target) -> bool:
    """Whether the target binds the batch to 1: its runtime is given larger batches image by image."""
    return any(isinstance(step, SpecializeShapes) and step.batch == 1 for step in target.legalize)


def run(graph: gs.Graph, shape: tuple[int, int, int], *, single: bool = False) -> np.ndarray:
    batch, height, width = shape
    x = np.random.default_rng(batch * height * width).standard_normal((batch, 3, height, width)).astype(np.float32)
    parts = np.split(x, batch) if single else [x]
    return np.concatenate([next(iter(evaluate.outputs(graph, {"x": part}).values())) for part in parts])


def compare_mask(logits: np.ndarray, mask: np.ndarray, threshold: float | None) -> None:
    """The mask is the winner; where two classes are as near as rounding, either may win."""
    if threshold is not None:
        with np.errstate(over="ignore"):
            margin = np.abs(1 / (1 + np.exp(-logits[:, 0].astype(np.float64))) - threshold)
        want = 1 / (1 + np.exp(-logits[:, 0].astype(np.float64))) > threshold
    else:
        ordered = np.sort(logits, axis=1)
        margin, want = ordered[:, -1] - ordered[:, -2], logits.argmax(1)
    assert mask.shape == want.shape
    sure = margin > TOLERANCE * (np.abs(logits).max() or 1)
    assert np.array_equal(mask[sure], want[sure].astype(mask.dtype))
