"""Each clean-up pass by itself on random graphs: the same numbers, an honest count, nothing left for a second."""

from __future__ import annotations

import onnx
import onnx.checker
import onnx_graphsurgeon as gs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segc.graph import ir
from segc.passes.base import Pass
from segc.passes.cleanup.split_batchnorm import SplitBatchnorm
from segc.pipeline import stages
from tests.helpers import random_models
from tests.helpers.checks import apply, check_numbers, text_of
from tests.helpers.random_movement import grown

PASSES = [SplitBatchnorm(), *(make() for make in stages.CLEAN)]
TOLERANCE = 1e-3  # absolute, of outputs of a few units; folded weights and reordered sums round differently


def segmentation_model(seed: int) -> gs.Graph:
    graph = ir.from_model(random_models.model(seed, 4))
    ir.infer_shapes(graph)
    return ir.cleanup(graph)


def check(step: Pass, before: gs.Graph, graph: gs.Graph) -> None:
    """Run `step` on `graph`, which equals `before`; a second run finds nothing."""
    changes = apply(step, graph).changes
    printed = text_of(graph)
    assert (changes > 0) == (printed != text_of(before)), f"counted {changes}, but the text says otherwise"
    assert apply(step, graph).changes == 0 and text_of(graph) == printed
    assert [t.name for t in graph.outputs] == [t.name for t in before.outputs]
    onnx.checker.check_model(ir.to_model(graph), full_check=True)
    check_numbers(before, graph, (2, 19, 23), atol=TOLERANCE)


@pytest.mark.parametrize("step", PASSES, ids=lambda step: step.name)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1 << 32))
def test_movement_and_arithmetic(step: Pass, seed: int) -> None:
    check(step, grown(seed), grown(seed))


@pytest.mark.parametrize("step", PASSES, ids=lambda step: step.name)
@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32 - 1))
def test_segmentation_networks(step: Pass, seed: int) -> None:
    check(step, segmentation_model(seed), segmentation_model(seed))
