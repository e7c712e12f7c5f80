"""Whole files against the patterns that PPLNN gets wrong, by code that shares nothing with the table and the passes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segc.compilation.settings import settings_of
from segc.graph import ir
from segc.hybrid.emit import model_of
from segc.hybrid.split import split_graph
from segc.pipeline import stages
from segc.targets import pplnn
from segc.targets.onnxruntime.target import ONNXRUNTIME
from segc.targets.pplnn.emit import at_opset
from segc.targets.pplnn.target import PPLNN
from tests.helpers import random_models
from tests.helpers.labelled_targets import EVERYTHING, run_plan, run_whole
from tests.helpers.pplnn_cases import model_of as case_model
from tests.helpers.pplnn_patterns import violations

FACTS = json.loads(Path(pplnn.__file__).with_name("facts.json").read_text())
PROBES = {probe["name"]: probe for probe in FACTS["x86_probe"] if probe["opset"] == 11}
# Sequences and other domains never occur in what segc writes.
NOT_LOOKED_AT = {name for name, probe in PROBES.items() if "sampler" in name or "Sequence" in name}
# Sign is right where nothing lies behind its result; the others because a later node reads the operand.
LUCKY = {
    "Sign11 fp32",
    *(f"pair: {op}(a, a) of a value that is read again" for op in ("Add", "Sub", "Mul", "Div")),
}
# Float64 arithmetic is in no model: the table's business alone.
UNLIKELY = {"graph: float64 Add"}
SIZE = (2, 19, 23)


def probe_file(name: str) -> onnx.ModelProto:
    model = case_model(PROBES[name])
    for at in reversed(range(len(model.opset_import))):
        if model.opset_import[at].domain:
            del model.opset_import[at]
    if name == "graph: two nodes with '' outputs":
        for node in model.graph.node:
            node.output.append("")
    return model


@pytest.mark.parametrize("name", sorted(PROBES.keys() - NOT_LOOKED_AT))
def test_the_patterns_are_those_that_failed(name: str) -> None:
    """Every probe that failed has one, and none that ran."""
    ran = PROBES[name]["result"] == "ok" and name not in LUCKY
    if name not in UNLIKELY:
        assert bool(violations(probe_file(name), "x86")) is not ran


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.integers(0, 2**32 - 1), st.integers(2, 14), st.booleans(), st.booleans(), st.sampled_from(["x86", "cuda"]))
def test_random_models_come_out_without_any(seed: int, blocks: int, static: bool, mask: bool, device: str) -> None:
    """As one file, or in the segments that PPLNN gets of it."""
    model = random_models.model(seed, blocks)
    graph = ir.from_model(onnx.ModelProto.FromString(model.SerializeToString()))
    ir.infer_shapes(graph)
    target = PPLNN.configure(PPLNN, settings_of(PPLNN, "fp32", {"device": device}))
    mask = mask and graph.outputs[0].shape[1] != 1
    stages.standard(target, shape=SIZE if static else None, mask=mask, simplify=False).run(graph)
    made = split_graph(graph, target, ONNXRUNTIME, EVERYTHING, SIZE, {})
    segments = () if made is None else [segment for segment in made.segments if not segment.on_host]
    written = [model_of(graph, s) for s in segments] or [ir.to_model(graph, functions=False)]
    for each in written:
        assert violations(at_opset(each, 11), device) == []
    if not mask:
        x = np.random.default_rng(0).standard_normal((SIZE[0], 3, *SIZE[1:])).astype(np.float32)
        want = run_whole(ir.from_model(model), x)
        got = run_whole(graph, x) if made is None else run_plan(graph, made, x)
        assert np.abs(got - want).max() <= 2e-4 * np.abs(want).max()
