"""Random models of a few ops through the pipelines and runtimes of targets; `make fuzz` runs many more."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from segc.graph import ir
from segc.isolation.supervisor import Child
from segc.legality import report
from segc.pipeline import stages
from segc.targets.pplnn.target import PPLNN
from tests.helpers import random_ops
from tests.helpers.differential import Answer, Question
from tests.helpers.labelled_targets import run_whole
from tests.helpers.pplnn_patterns import violations

SEEDS = (*range(60), 419, *range(random_ops.SHARING, random_ops.SHARING + 15))  # 419: a stride that OpenVINO moves


@pytest.mark.parametrize("target", ["onnxruntime", "openvino", "ncnn"])
def test_a_runtime_computes_what_the_model_says(target: str) -> None:
    pytest.importorskip(target)
    child = Child("tests.helpers.differential", memory=8 << 30)
    try:
        answers: list[Answer] = child.ask(Question(target, "ops", SEEDS), 300.0)
    finally:
        child.close()
    assert [answer for answer in answers if answer.outcome not in ("ok", "refused")] == []
    assert sum(answer.outcome == "ok" for answer in answers) > len(SEEDS) * 2 // 3


@pytest.mark.parametrize("seeds", [range(at, at + 50) for at in range(0, 200, 50)], ids=str)
def test_files_for_pplnn_hold_no_pattern_that_it_computes_wrongly(seeds: range) -> None:
    """And ONNX Runtime computes the same from them."""
    accepted = 0
    for seed in seeds:
        model = random_ops.model(seed)
        graph = ir.from_model(onnx.ModelProto.FromString(model.SerializeToString()))
        n, _, h, w = graph.inputs[0].shape
        stages.standard(PPLNN, shape=(n, h, w)).run(graph)
        if report.refusals(graph, PPLNN):
            continue
        accepted += 1
        assert violations(ir.to_model(graph, functions=False), "x86") == [], seed
        x = np.random.default_rng(seed).standard_normal(model_shape(model)).astype(np.float32)
        want, got = run_whole(ir.from_model(model), x), run_whole(graph, x)
        assert np.abs(got - want).max() <= 1e-4 * max(np.abs(want).max(), 1e-3), seed
    assert accepted > len(seeds) * 3 // 4


def model_shape(model: onnx.ModelProto) -> tuple[int, ...]:
    return tuple(d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim)


def test_models_of_later_seeds_share_weights() -> None:
    models = [random_ops.model(seed) for seed in range(random_ops.SHARING, random_ops.SHARING + 40)]
    assert sum(shares_weights(model) for model in models) > 5
    assert not any(shares_weights(random_ops.model(seed)) for seed in range(40))


def shares_weights(model: onnx.ModelProto) -> bool:
    weights = [node.input[1] for node in model.graph.node if node.op_type == "Conv"]
    return len(set(weights)) < len(weights)
