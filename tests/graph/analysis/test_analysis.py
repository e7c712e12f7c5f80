"""Analyses against brute force on small random graphs, and by hand where the answer is known."""

from __future__ import annotations

import itertools

import numpy as np
import onnx.parser
import onnx_graphsurgeon as gs
import pytest
from hypothesis import given, settings

from segc.graph import ir
from segc.graph.analysis.dominators import dominators, post_dominators
from segc.graph.analysis.liveness import peak_memory
from segc.graph.analysis.matching import matches, pattern
from segc.graph.analysis.views import cycle, node_graph
from tests.helpers.small_graphs import graphs


def graph_of(text: str) -> gs.Graph:
    graph = ir.from_model(onnx.parser.parse_model('<ir_version: 9, opset_import: ["" : 20]>' + text))
    ir.infer_shapes(graph)
    return graph


# --- liveness ---------------------------------------------------------------------------------------------------------


def live_at(graph: gs.Graph, step: int) -> dict[int, gs.Variable]:
    """By the definition: written by now, and needed now or later."""
    written = [*graph.inputs, *(t for node in graph.nodes[: step + 1] for t in node.outputs)]
    wanted = {id(t) for node in graph.nodes[step:] for t in node.inputs} | {id(t) for t in graph.outputs}
    mine = {id(t) for t in graph.nodes[step].outputs} | ({id(t) for t in graph.inputs} if step == 0 else set())
    return {id(t): t for t in written if id(t) in wanted or id(t) in mine}


@given(graphs())
def test_the_peak_is_the_largest_sum_of_what_is_live(graph: gs.Graph) -> None:
    sums = [sum(4 * t.shape[0] for t in live_at(graph, step).values()) for step in range(len(graph.nodes))]
    found = peak_memory(graph)
    assert found.peak == max(sums)
    assert sums[found.step] == found.peak
    assert found.node == graph.nodes[found.step].name
    assert {each.name for each in found.live} == {t.name for t in live_at(graph, found.step).values()}
    assert sum(each.bytes for each in found.live) == found.peak
    assert [each.bytes for each in found.live] == sorted((each.bytes for each in found.live), reverse=True)


def test_a_residual_keeps_its_input_alive() -> None:
    graph = graph_of("g (float[1,4,8,8] x) => (float[1,4,8,8] y) { a = Relu (x) b = Neg (a) y = Add (x, b) }")
    found = peak_memory(graph)
    assert (found.peak, found.step, found.node) == (3 * 1024, 1, "Neg/b")
    assert [each.name for each in found.live] == ["a", "b", "x"]


def test_symbols_count_when_they_are_given_and_are_named_when_not() -> None:
    graph = graph_of("g (float[N,2] x) => (float[N,2] y) { y = Relu (x) }")
    assert peak_memory(graph).peak == 0
    assert set(peak_memory(graph).unknown) == {"x", "y"}
    assert peak_memory(graph, {"N": 3}).peak == 2 * 3 * 2 * 4
    assert peak_memory(graph, {"N": 3}).unknown == ()


def test_constants_do_not_count_and_a_subgraph_reads() -> None:
    graph = graph_of("""g (bool c, float[100] x) => (float[100] y) <float[100] w = {0}> {
        a = Neg (x)
        b = Relu (x)
        y = If (c) <then_branch = t () => (float[100] p) { p = Identity (a) },
                    else_branch = e () => (float[100] q) { q = Identity (b) }> }""")
    found = peak_memory(graph)
    assert (found.step, found.peak) == (1, 1 + 3 * 400)  # c, x, a, b: `a` is needed by the branch later


# --- dominators -------------------------------------------------------------------------------------------------------


def paths_avoid(edges: dict[object, list[object]], start: object, goal: object, without: object) -> bool:
    """Whether `goal` is reached from `start` on a path that does not touch `without`."""
    seen, pending = {start}, [start]
    while pending:
        for following in edges.get(pending.pop(), []):
            if following != without and following not in seen:
                seen.add(following)
                pending.append(following)
    return goal in seen


def by_brute_force(graph: gs.Graph, *, post: bool) -> dict[int, set[int]]:
    """Node -> all nodes on every path from the inputs to it (post: from it to the outputs)."""
    view = node_graph(graph)
    edges: dict[object, list[object]] = {n: list(view.predecessors(n) if post else view.successors(n)) for n in view}
    ends = {id(t) for t in (graph.outputs if post else graph.inputs)}
    starts = [
        id(n)
        for n in graph.nodes
        if any(id(t) in ends for t in (n.outputs if post else n.inputs))
        or not (view.out_degree(id(n)) if post else view.in_degree(id(n)))
    ]
    edges["start"] = list(starts)
    return {n: {d for d in view if d != n and not paths_avoid(edges, "start", n, d)} for n in view}


@given(graphs())
@settings(max_examples=60)
def test_dominators_are_on_every_path(graph: gs.Graph) -> None:
    for post, found in ((False, dominators(graph)), (True, post_dominators(graph))):
        every = by_brute_force(graph, post=post)
        assert set(found) == set(every)
        for n, strict in every.items():
            chain, at = set(), found[n]
            while at is not None:
                chain.add(id(at))
                at = found[id(at)]
            assert chain == strict


# --- matching ---------------------------------------------------------------------------------------------------------


@given(graphs(most=6))
@settings(max_examples=60)
def test_matching_finds_every_injection_that_keeps_ops_and_edges(graph: gs.Graph) -> None:
    wanted = pattern({"p": "A", "q": ("A", "B"), "r": "*"}, [("p", "q"), ("q", "r", 0)])
    expected = set()
    for p, q, r in itertools.permutations(graph.nodes, 3):
        reads = any(t is o for t in q.inputs for o in p.outputs)
        first = bool(r.inputs) and any(r.inputs[0] is o for o in q.outputs)
        if p.op == "A" and reads and first:
            expected.add((id(p), id(q), id(r)))
    assert {tuple(id(m.nodes[k]) for k in "pqr") for m in matches(graph, wanted)} == expected


def test_a_chain_inside_a_residual_block_is_found_and_what_escapes_is_told() -> None:
    graph = graph_of("""g (float[1,4,8,8] x) => (float[1,4,8,8] y)
        { a = Neg (x) b = Relu (a) c = Abs (b) y = Add (c, a) }""")
    chain = pattern({"neg": "Neg", "relu": "Relu", "abs": "Abs"}, [("neg", "relu"), ("relu", "abs")])
    (found,) = matches(graph, chain)
    assert [t.name for t in found.escaping(graph, "abs")] == ["a"]
    block = pattern({"neg": "Neg", "relu": "Relu", "abs": "Abs", "add": "Add"},
                    [("neg", "relu"), ("relu", "abs"), ("abs", "add", 0)])  # fmt: skip
    (whole,) = matches(graph, block)  # the edge from Neg to Add is not in the pattern, and does no harm
    assert whole.escaping(graph, "add") == []


def test_a_pattern_may_not_speak_of_unknown_names() -> None:
    with pytest.raises(KeyError):
        pattern({"a": "Relu"}, [("a", "b")])


# --- cycles, order ----------------------------------------------------------------------------------------------------


def test_a_cycle_is_found_in_order_and_refused_when_sorting() -> None:
    graph = graph_of("g (float[4] x) => (float[4] y) { a = Relu (x) b = Neg (a) y = Abs (b) }")
    assert cycle(graph) == []
    graph.nodes[0].inputs = [graph.nodes[1].outputs[0]]
    assert sorted(node.op for node in cycle(graph)) == ["Neg", "Relu"]
    with pytest.raises(ir.CycleError, match="which needs it"):
        ir.cleanup(graph)


@given(graphs(), graphs())
def test_cleanup_keeps_what_outputs_need_in_an_order_that_works(graph: gs.Graph, other: gs.Graph) -> None:
    order = np.random.default_rng(len(other.nodes)).permutation(len(graph.nodes))
    view = node_graph(graph)
    ends = [id(n) for n in graph.nodes if any(t is o for t in n.outputs for o in graph.outputs)]
    needed = {n for n in view if n in ends or any(paths_avoid(dict(view.adjacency()), n, end, None) for end in ends)}
    written = {id(node): at for at, node in enumerate(graph.nodes)}
    graph.nodes = [graph.nodes[i] for i in order]
    ir.cleanup(graph)
    assert {id(n) for n in graph.nodes} == needed
    at = {id(n): i for i, n in enumerate(graph.nodes)}
    assert all(at[id(p)] < at[id(n)] for n in graph.nodes for t in n.inputs for p in t.inputs)
    again = [id(n) for n in graph.nodes]
    ir.cleanup(graph)
    assert [id(n) for n in graph.nodes] == again
    graph.nodes.sort(key=lambda n: written[id(n)])
    kept = [id(n) for n in graph.nodes]
    ir.cleanup(graph)
    assert [id(n) for n in graph.nodes] == kept, "a sorted list keeps its order"


def test_a_chain_of_any_length_is_sorted_without_recursion() -> None:
    tensors = [gs.Variable(f"t{i}", np.float32, [1]) for i in range(20_001)]
    nodes = [gs.Node("Relu", inputs=[tensors[i]], outputs=[tensors[i + 1]]) for i in range(20_000)]
    graph = gs.Graph(list(reversed(nodes)), [tensors[0]], [tensors[-1]])
    ir.cleanup(graph)
    assert [id(n) for n in graph.nodes] == [id(n) for n in nodes]


def test_links_are_cut_by_identity() -> None:
    """By value both nodes are equal once they have no outputs; graphsurgeon would cut the first one's link."""
    x = gs.Variable("x", np.float32, [1])
    first, second = (gs.Node("Relu", inputs=[x]) for _ in range(2))
    second.inputs.clear()
    assert len(x.outputs) == 1
    assert x.outputs[0] is first
