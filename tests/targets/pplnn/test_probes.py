"""Every probe of the facts goes through the checker: what ran is accepted, what failed is refused or rewritten."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from segc.graph import ir
from segc.legality import report
from segc.passes.support import evaluate
from segc.targets import pplnn
from segc.targets.pplnn import target
from tests.helpers.pplnn_cases import CASES, COMBINED, model_of

FACTS = json.loads(Path(pplnn.__file__).with_name("facts.json").read_text())
PROBES = {probe["name"]: probe for probe in FACTS["x86_probe"]}
OPSET = 11
# Sign is right where nothing lies behind its result; the others because a later node reads the operand.
LUCKY = {
    "Sign11 fp32",
    *(f"pair: {op}(a, a) of a value that is read again" for op in ("Add", "Sub", "Mul", "Div")),
}
# What only the whole graph shows, and the passes put right; no check of a node can refuse it.
OF_THE_GRAPH = {"graph: two nodes with '' outputs", "graph: input dim with neither value nor param"}


def graph_of(probe: Mapping[str, Any]) -> gs.Graph:
    graph = ir.from_model(model_of(probe))
    for y in graph.outputs:
        y.dtype, y.shape = None, None
    ir.infer_shapes(graph)
    if probe["name"] == "graph: two nodes with '' outputs":
        for node in graph.nodes:
            node.outputs.append(gs.Variable.empty())
    if probe["name"] == "graph: unused node output '' (MaxPool indices)":
        graph.nodes[0].outputs.append(gs.Variable.empty())
    return graph


def refused(graph: gs.Graph) -> list[str]:
    """Why PPLNN on x86 does not take the graph as it stands."""
    found = [] if graph.opset == OPSET else [f"opset {graph.opset}"]
    return found + [refusal.reason for refusal in report.refusals(graph, target.PPLNN)]


def legalized(graph: gs.Graph) -> gs.Graph:
    for step in target.PPLNN.legalize:
        if step.run(graph).changes:
            ir.name_all(ir.cleanup(graph))
    return graph


def same_numbers(probe: Mapping[str, Any], after: gs.Graph) -> None:
    before = graph_of(probe)
    if any(node.domain for node in before.nodes):
        return  # ONNX Runtime does not have it
    for graph in (before, after):  # a name that nobody reads
        for node in graph.nodes:
            node.outputs = [t for t in node.outputs if not t.is_empty()]
    feeds = {t.name: fed(t) for t in before.inputs}
    if probe["name"] == "Reshape runtime":
        feeds["s"] = np.array([8, 42])
    try:
        want = evaluate.outputs(before, feeds)
    except evaluate.CannotRun:
        assert probe["result"] != "ok", "what PPLNN runs, ONNX Runtime does too"
        return
    got = evaluate.outputs(after, feeds)
    for name, value in want.items():
        assert got[name].shape == value.shape and got[name].dtype == value.dtype
        np.testing.assert_allclose(got[name], value, rtol=1e-4, atol=1e-5)


CHOSEN: dict[str, list[int]] = {"p": [0, 0, 1, 0, 0, 0, 0, 2], "s": [2, 1], "k": [3], "n": [5]}


def fed(tensor: gs.Tensor) -> np.ndarray:
    """Random numbers, and small whole ones where they are sizes; what is not known is 5."""
    shape = [size if isinstance(size, int) else 5 for size in tensor.shape]
    if tensor.name in CHOSEN:
        return np.resize(np.array(CHOSEN[tensor.name]), shape).astype(tensor.dtype)
    rng = np.random.default_rng(len(tensor.name))
    dtype = np.dtype(tensor.dtype)
    return np.asarray(rng.standard_normal(shape) if dtype.kind == "f" else rng.integers(1, 3, shape)).astype(dtype)


def test_the_models_are_those_of_the_facts() -> None:
    assert len(PROBES) == len(FACTS["x86_probe"]) == 462
    assert CASES.keys() | COMBINED.keys() <= PROBES.keys()
    for probe in PROBES.values():
        domain = "mmcv" if probe["op"] == "grid_sampler" else ""
        assert (domain, probe["op"]) in {(node.domain, node.op_type) for node in model_of(probe).graph.node}


@pytest.mark.parametrize("name", [name for name, probe in PROBES.items() if probe["result"] == "ok"])
def test_what_ran_is_accepted(name: str) -> None:
    probe = PROBES[name]
    if probe["opset"] == OPSET and name not in LUCKY:
        assert refused(graph_of(probe)) == []
    if probe["opset"] >= OPSET:
        after = legalized(graph_of(probe))
        assert refused(after) == []
        same_numbers(probe, after)


@pytest.mark.parametrize("name", [name for name, probe in PROBES.items() if probe["result"] != "ok"])
def test_what_failed_is_refused_or_rewritten(name: str) -> None:
    probe = PROBES[name]
    assert refused(graph_of(probe)) or name in OF_THE_GRAPH
    if probe["opset"] < OPSET:
        return  # the front end raises old opsets before any target sees them
    after = legalized(graph_of(probe))
    if not refused(after):
        same_numbers(probe, after)


def test_what_only_the_graph_shows_is_put_right() -> None:
    two, unknown = (legalized(graph_of(PROBES[name])) for name in sorted(OF_THE_GRAPH, reverse=True))
    assert [len(node.outputs) for node in two.nodes] == [1, 1]
    assert list(unknown.inputs[0].shape) == ["x_dim0", 8, 6, 7]
