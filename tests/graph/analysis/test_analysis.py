"""Analyses against brute force on small random graphs, and by hand where the answer is known."""

from __future__ import annotations

import numpy as np
import onnx.parser
import onnx_graphsurgeon as gs
import pytest
from hypothesis import given

from segc.graph import ir
from segc.graph.analysis.liveness import peak_memory
from segc.graph.analysis.views import node_graph
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


def paths_avoid(edges: dict[object, list[object]], start: object, goal: object, without: object) -> bool:
    """Whether `goal` is reached from `start` on a path that does not touch `without`."""
    seen, pending = {start}, [start]
    while pending:
        for following in edges.get(pending.pop(), []):
            if following != without and following not in seen:
                seen.add(following)
                pending.append(following)
    return goal in seen


# --- cycles, order ----------------------------------------------------------------------------------------------------


def test_a_cycle_is_refused_when_sorting() -> None:
    graph = graph_of("g (float[4] x) => (float[4] y) { a = Relu (x) b = Neg (a) y = Abs (b) }")
    graph.nodes[0].inputs = [graph.nodes[1].outputs[0]]
    with pytest.raises(ir.CycleError, match="are on a cycle"):
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
