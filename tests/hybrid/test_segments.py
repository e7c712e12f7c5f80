"""Random labelings of real graphs: segments are convex and ordered, and together compute the whole graph's bits.

The checks read the ONNX models of the segments, not the plan: what a segment needs must have been given before.
"""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Collection
from itertools import combinations
from pathlib import Path

import networkx as nx
import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segc.graph import ir
from segc.graph.analysis.partition import schedule
from segc.graph.analysis.views import node_graph
from segc.hybrid.cut_tensors import Dataflow, repeatable_nodes, required_nodes
from segc.hybrid.emit import model_of
from segc.hybrid.options import Partitioning
from segc.hybrid.plan import Plan, plan
from segc.hybrid.split import nominal_shapes
from segc.passes.inputs.specialize_shapes import SpecializeShapes
from segc.targets import Target
from segc.targets.checks import static_map
from segc.targets.onnxruntime.target import ONNXRUNTIME
from tests.helpers import random_models
from tests.helpers.labelled_targets import EVERYTHING, ONE_IO, refusing, run_plan, run_whole

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
SIZE = (2, 19, 23)  # N, H, W


def random_graph(seed: int, blocks: int, static: bool) -> gs.Graph:
    graph = ir.from_model(random_models.model(seed, blocks))
    ir.infer_shapes(graph)
    if static:
        SpecializeShapes(*SIZE).run(graph)
    return ir.cleanup(graph)


def labelled(graph: gs.Graph, seed: int) -> list[str]:
    """Names of refused nodes: a share of all, or all of some ops."""
    rng = random.Random(seed)
    if rng.random() < 0.5:
        share = rng.choice((0.05, 0.2, 0.5))
        return [node.name for node in graph.nodes if rng.random() < share]
    ops = sorted({node.op for node in graph.nodes})
    out = set(rng.sample(ops, min(len(ops), rng.choice((1, 2, 4)))))
    return [node.name for node in graph.nodes if node.op in out]


def edges_of(model: onnx.ModelProto) -> set[tuple[str, str]]:
    """Producer to reader, by the names of the nodes; only for models without subgraphs."""
    made = {name: node.name for node in model.graph.node for name in node.output if name}
    return {(made[name], node.name) for node in model.graph.node for name in node.input if name in made}


def require_convex(edges: Collection[tuple[str, str]], inside: set[str]) -> None:
    """No path leaves the set and comes back."""
    pending = {b for a, b in edges if a in inside and b not in inside}
    seen: set[str] = set()
    while pending:
        at = pending.pop()
        seen.add(at)
        assert at not in inside, f"a path comes back at {at}"
        pending |= {b for a, b in edges if a == at} - seen


def require_connected(edges: Collection[tuple[str, str]], inside: set[str]) -> None:
    pending, seen = [min(inside)], {min(inside)}
    while pending:
        at = pending.pop()
        beside = {b for a, b in edges if a == at} | {a for a, b in edges if b == at}
        pending += (beside & inside) - seen
        seen |= beside & inside
    assert seen == inside


def require_sound(graph: gs.Graph, made: Plan, target: Target) -> None:
    """Every node is run, in an order that works, and target segments are convex and connected."""
    whole = ir.to_model(graph, functions=False)
    parts = [model_of(graph, segment) for segment in made.segments]
    places: dict[str, list[int]] = {}
    for at, part in enumerate(parts):
        for node in part.graph.node:
            places.setdefault(node.name, []).append(at)
    assert set(places) == {node.name for node in whole.graph.node}
    known = {graph.inputs[0].name}
    for part in parts:
        assert {info.name for info in part.graph.input} <= known, "a segment needs what comes later"
        known |= {info.name for info in part.graph.output}
    assert graph.outputs[0].name in known
    repeated = {name for name, found in places.items() if len(found) > 1}
    assert all(node.outputs[0].dtype != np.float32 for node in graph.nodes if node.name in repeated)
    edges = {(a, b) for a, b in edges_of(whole) if a not in repeated and b not in repeated}
    for segment in made.segments:
        inside = {node.name for node in segment.nodes} - repeated
        require_convex(edges, inside)
        if not segment.on_host:
            assert all(target.why_not(node) is None for node in segment.nodes)
            own = {(a, b) for a, b in edges if a in inside and b in inside}
            assert not inside or (require_connected(own, inside) is None)


def require_apart(made: Plan) -> None:
    """No two segments on one side could be one."""
    of = {node.name: at for at, segment in enumerate(made.segments) for node in segment.nodes}
    repeated = {node.name for at, s in enumerate(made.segments) for node in s.nodes if of[node.name] != at}
    gives = {
        t.name: at for at, s in enumerate(made.segments) for n in s.nodes if n.name not in repeated for t in n.outputs
    }
    between = nx.DiGraph(
        (gives[t.name], at) for at, s in enumerate(made.segments) for t in s.inputs if gives.get(t.name, at) != at
    )
    between.add_nodes_from(range(len(made.segments)))
    for a, b in combinations(range(len(made.segments)), 2):
        one, other = made.segments[a], made.segments[b]
        neighbours = between.has_edge(a, b) or between.has_edge(b, a)
        if one.on_host == other.on_host and (one.on_host or neighbours):
            joined = nx.contracted_nodes(between, a, b, self_loops=False)
            assert not nx.is_directed_acyclic_graph(joined), f"segments {a} and {b} could be one"


def check(graph: gs.Graph, target: Target, options: Partitioning) -> Plan:
    made = plan(graph, target, ONNXRUNTIME, options, nominal_shapes(graph, SIZE))
    if made.segments:
        require_sound(graph, made, target)
        if target.multi_io:
            require_apart(made)
        x = np.random.default_rng(3).standard_normal((SIZE[0], 3, *SIZE[1:])).astype(np.float32)
        np.testing.assert_array_equal(run_plan(graph, made, x), run_whole(graph, x))
    return made


@settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
@given(st.integers(0, 2**32 - 1), st.integers(2, 14), st.booleans(), st.integers(0, 2**32))
def test_segments_of_random_models_compute_the_same_bits(seed: int, blocks: int, static: bool, labels: int) -> None:
    graph = random_graph(seed, blocks, static)
    check(graph, refusing(labelled(graph, labels)), EVERYTHING)


@settings(max_examples=40, deadline=None, suppress_health_check=SLOW)
@given(st.integers(0, 2**32 - 1), st.integers(2, 14), st.booleans(), st.integers(0, 2**32))
def test_segments_of_engines_with_one_input_and_one_output(seed: int, blocks: int, static: bool, labels: int) -> None:
    graph = random_graph(seed, blocks, static)
    target = refusing(labelled(graph, labels), runtime=ONE_IO, boundary=static_map)
    made = check(graph, target, EVERYTHING)
    for segment in made.segments:
        if not segment.on_host:
            assert len(segment.inputs) == len(segment.outputs) == 1
            between = [t for t in (*segment.inputs, *segment.outputs) if t not in (*graph.inputs, *graph.outputs)]
            assert all(t.dtype == np.float32 and len(t.shape) == 4 for t in between)
            assert all(isinstance(size, int) for t in between for size in t.shape)


@settings(max_examples=40, deadline=None, suppress_health_check=SLOW)
@given(st.integers(0, 2**32 - 1), st.integers(2, 14), st.booleans(), st.integers(0, 2**32))
def test_boundaries_are_legal_for_the_target(seed: int, blocks: int, static: bool, labels: int) -> None:
    """The target takes float32 only, of any shape; sizes and flags stay on one side, or are computed on both."""
    graph = random_graph(seed, blocks, static)
    made = check(graph, refusing(labelled(graph, labels), boundary=float32_only), EVERYTHING)
    for segment in made.segments:
        if not segment.on_host:
            assert all(tensor.dtype == np.float32 for tensor in (*segment.inputs, *segment.outputs))


def float32_only(tensor: gs.Tensor) -> str | None:
    return None if tensor.dtype == np.float32 else f"'{tensor.name}' is {tensor.dtype}"


def legal(dataflow: Dataflow, free: set[int], inside: set[int], target: Target) -> bool:
    """Whether the target takes all boundaries of these nodes, which compute sizes of the image for themselves."""
    whole = inside | required_nodes(dataflow, inside, free)
    crossing = [t for t in dataflow.inputs(whole) if not dataflow.is_graph_io(t)]
    crossing += [t for t in dataflow.outputs(inside) if not dataflow.is_graph_output(t)]
    return not any(target.boundary(t) for t in crossing)


@pytest.mark.parametrize("seed", [*range(0, 40, 2), 394])
def test_nothing_that_a_boundary_moved_to_the_host_could_stay(seed: int) -> None:
    """Supported nodes on the host, with all that their illegal boundaries tie to them, fit into no segment.

    In 394 arithmetic on sizes once went to the segment of the map it measures, was cut off from what it feeds by a
    boundary, and fell to the host with it.
    """
    graph = random_graph(seed, 4 + seed % 11, static=False)
    target = refusing(labelled(graph, seed), boundary=float32_only)
    made = plan(graph, target, ONNXRUNTIME, EVERYTHING, {})
    dataflow = Dataflow(graph)
    free = repeatable_nodes(dataflow, lambda node: target.why_not(node) is None)
    view = nx.DiGraph(node_graph(graph).subgraph({id(node) for node in graph.nodes} - free).edges)
    view.add_nodes_from(id(node) for node in graph.nodes if id(node) not in free)
    groups = [{id(node) for node in s.nodes} - free for s in made.segments if not s.on_host]
    supported = {id(node) for node in graph.nodes if target.why_not(node) is None} - free
    moved = supported - set().union(*groups)
    tied = nx.Graph([(a, b) for a, b in view.edges if {a, b} <= moved and not legal(dataflow, free, {a}, target)])
    tied.add_nodes_from(moved)
    for bundle in nx.connected_components(tied):
        for group in [set[int](), *groups]:
            joined = group | bundle
            others = [other for other in groups if other is not group]
            if nx.is_weakly_connected(view.subgraph(joined)) and legal(dataflow, free, joined, target):
                with pytest.raises(ValueError, match="depend on each other"):
                    schedule(view, [*others, joined])


@settings(max_examples=30, deadline=None, suppress_health_check=SLOW)
@given(st.integers(0, 2**32 - 1), st.integers(4, 14), st.integers(0, 2**32), st.sampled_from((1, 3, 8)))
def test_what_is_not_worth_its_boundary_stays_on_the_host(seed: int, blocks: int, labels: int, least: int) -> None:
    graph = random_graph(seed, blocks, static=True)
    target = refusing(labelled(graph, labels))
    made = check(graph, target, Partitioning(min_nodes=least, work_per_byte=8, min_share=0.1))
    everything = plan(graph, target, ONNXRUNTIME, EVERYTHING, {})
    assert made.host_nodes >= everything.host_nodes or not made.segments
    assert all(len(s.nodes) >= least for s in made.segments if not s.on_host)
    assert not made.segments or made.share >= 0.1


@pytest.mark.parametrize("name", ["ch_PP-OCRv4_det_infer.onnx", "ch_ppocr_mobile_v2.0_cls_infer.onnx"])
@pytest.mark.parametrize("static", [True, False])
def test_files_of_other_exporters_split_exactly(name: str, static: bool) -> None:
    found = importlib.util.find_spec("rapidocr_onnxruntime")
    if found is None or found.origin is None:
        pytest.skip("rapidocr-onnxruntime is not installed")
    file = Path(found.origin).parent / "models" / name
    size = (1, 64, 64)  # one of the files has the same symbol for height and width
    x = np.random.default_rng(0).standard_normal((1, 3, *size[1:])).astype(np.float32)
    for labels in range(4):
        graph = ir.from_model(onnx.load(file))
        ir.infer_shapes(graph)
        if static:
            SpecializeShapes(*size).run(graph)
        ir.cleanup(graph)
        target = refusing(labelled(graph, labels))
        made = plan(graph, target, ONNXRUNTIME, EVERYTHING, nominal_shapes(graph, size))
        assert len(made.segments) > 1
        require_sound(graph, made, target)
        np.testing.assert_array_equal(run_plan(graph, made, x), run_whole(graph, x))
