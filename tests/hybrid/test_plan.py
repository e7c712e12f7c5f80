"""Small graphs whose segments are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from segc.errors import CompileError, LegalityError, UsageError
from segc.graph import ir
from segc.hybrid.costs import Costs
from segc.hybrid.emit import model_of
from segc.hybrid.options import Partitioning
from segc.hybrid.plan import Plan, plan
from segc.hybrid.split import nominal_shapes, plan_summary, split_graph
from segc.targets.checks import static_map
from segc.targets.onnxruntime.target import ONNXRUNTIME
from tests.helpers.labelled_targets import EVERYTHING, ONE_IO, refusing, run_plan, run_whole
from tests.helpers.tiny_models import parsed

WIDE = ", ".join(f"{i % 7 - 3}" for i in range(4 * 4 * 9))
CHAIN = f"""g (float[1,4,8,8] x) => (float[1,4,8,8] y) <float[4,4,3,3] w = {{{WIDE}}}> {{
    [one] a = Conv<pads = [1, 1, 1, 1]>(x, w)
    [two] b = Erf(a)
    [three] c = Conv<pads = [1, 1, 1, 1]>(b, w)
    [four] d = Relu(c)
    [five] y = Add(d, a)
}}"""
SIZED = """g (float[N,4,H,W] x) => (float[N,4,H2,W2] y) <int64[1] two = {2}, int64[1] four = {4}, int64[1] zero = {0}> {
    [shape] s = Shape(x)
    [sides] hw = Slice(s, two, four, zero)
    [front] nc = Slice(s, zero, two, zero)
    [all] whole = Concat<axis = 0>(nc, hw)
    [pool] a = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)
    [up] b = Resize<mode = "linear">(a, , , whole)
    [erf] c = Erf(b)
    [again] d = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(c)
    [end] y = Resize<mode = "linear">(d, , , whole)
}"""


def graph_of(text: str) -> gs.Graph:
    graph = ir.from_model(parsed(text))
    ir.infer_shapes(graph)
    return graph


def planned(graph: gs.Graph, *refused: str, options: Partitioning = EVERYTHING, **changes: Any) -> Plan:
    return plan(graph, refusing(refused, **changes), ONNXRUNTIME, options, nominal_shapes(graph, (1, 8, 8)))


def shown(made: Plan) -> list[tuple[str, str]]:
    return [("host" if s.on_host else "target", " ".join(node.name for node in s.nodes)) for s in made.segments]


def test_a_refused_node_splits_a_chain_in_three() -> None:
    made = planned(graph_of(CHAIN), "two")
    assert shown(made) == [("target", "one"), ("host", "two"), ("target", "three four five")]
    assert [[t.name for t in s.inputs] for s in made.segments] == [["x"], ["a"], ["b", "a"]]
    assert [[t.name for t in s.outputs] for s in made.segments] == [["a"], ["b"], ["y"]]
    assert made.host_nodes == 1 and made.share > 0.9


def test_engines_of_one_input_and_output_get_the_heaviest_stretch() -> None:
    """Five needs two tensors from outside, so it is the host's; three and four are a stretch."""
    made = planned(graph_of(CHAIN), "two", runtime=ONE_IO, boundary=static_map)
    assert shown(made) == [("target", "one"), ("host", "two"), ("target", "three four"), ("host", "five")]
    assert made.kept_on_host == ("1 node stays on the host: private does not accept its inputs or outputs",)


def test_an_edge_that_may_not_be_cut_joins_its_nodes_first() -> None:
    """a cannot be with both b and c, since h lies between; the edge from b to c is the heavier one."""
    text = """g (float[1,4,8,8] x) => (float[1,7,8,8] y)
    <int64[2] parts = {1, 3}, float[4,1,1,1] w = {1, 2, 3, 4}> {
        [a] p, q = Split<axis = 1>(x, parts)
        [b] b = Conv(p, w)
        [h] h = Erf(q)
        [c] y = Concat<axis = 1>(b, h)
    }"""
    free = planned(graph_of(text), "h")
    assert shown(free) == [("target", "a"), ("host", "h"), ("target", "b c")]
    bound = planned(graph_of(text), "h", boundary=lambda t: "no p" if t.name == "p" else None)
    assert shown(bound) == [("target", "a b"), ("host", "h"), ("target", "c")]


def test_no_segment_of_the_target_is_no_plan() -> None:
    every = ("one", "two", "three", "four", "five")
    made = planned(graph_of(CHAIN), *every, options=Partitioning(work_per_byte=0, min_share=0))
    assert (made.segments, made.share) == ((), 0)


def test_what_stands_at_a_boundary_the_target_does_not_take_moves_to_the_host() -> None:
    made = planned(graph_of(CHAIN), "two", boundary=lambda t: "no b" if t.name == "b" else None)
    assert shown(made) == [("target", "one"), ("host", "two three"), ("target", "four five")]


def test_work_pays_for_boundaries() -> None:
    """Three, four and five do 4*4*9*64 multiply-adds and twice 256 operations for three tensors of 1024 bytes."""
    graph = graph_of(CHAIN)
    work, boundary = 4 * 4 * 9 * 64 + 2 * 256, 2 * 1024  # the graph's own output crosses a boundary in any case
    for asked, kept in ((work / boundary - 0.01, True), (work / boundary + 0.01, False)):
        made = planned(graph, "two", options=Partitioning(work_per_byte=asked, min_share=0))
        assert (("target", "three four five") in shown(made)) is kept
    made = planned(graph, "two", options=Partitioning(min_nodes=2, work_per_byte=0))
    assert shown(made) == [("host", "one two"), ("target", "three four five")]
    assert made.kept_on_host == (
        "1 node in 1 small part stays on the host: not worth the transfer of its inputs and outputs",
    )


def test_the_target_must_do_a_share_of_the_work() -> None:
    assert planned(graph_of(CHAIN), "one", "two", "three", options=Partitioning(1, 0, 0.1)).segments == ()
    assert planned(graph_of(CHAIN), "two", "three", options=Partitioning(1, 0, 0.1)).segments


def test_sizes_of_the_image_are_computed_where_they_are_needed() -> None:
    graph = graph_of(SIZED)
    made = planned(graph, "erf")
    sizes = "shape sides front all"
    assert shown(made) == [("target", f"{sizes} pool up"), ("host", "erf"), ("target", f"{sizes} again end")]
    assert [[t.name for t in s.inputs] for s in made.segments] == [["x"], ["b"], ["x", "c"]]
    x = np.random.default_rng(0).standard_normal((2, 4, 9, 7)).astype(np.float32)
    np.testing.assert_array_equal(run_plan(graph, made, x), run_whole(graph, x))


def test_sizes_the_target_cannot_compute_are_given_to_it() -> None:
    made = planned(graph_of(SIZED), "erf", "front")
    assert shown(made) == [
        ("host", "shape front"), ("target", "shape sides all pool up"), ("host", "erf"), ("target", "again end")
    ]  # fmt: skip
    assert [[t.name for t in s.inputs] for s in made.segments] == [["x"], ["x", "nc"], ["b"], ["c", "whole"]]


def test_bytes_of_a_dynamic_graph_are_those_at_the_size_it_was_traced_at() -> None:
    graph = graph_of(SIZED)
    costs = Costs(nominal_shapes(graph, (1, 8, 8)))
    tensors = graph.tensors()
    assert costs.nbytes(tensors["a"]) == 4 * 4 * 4 * 4
    assert costs.nbytes(tensors["c"]) == 4 * 8 * 8 * 4
    assert nominal_shapes(graph_of(CHAIN), (1, 8, 8)) == {}
    assert Costs({}).nbytes(tensors["a"]) is None


@pytest.mark.parametrize(
    "body, work",
    [
        ("n = Conv<group = 2, kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x, half)", 4 * 36 * 2 * 9),
        ("n = ConvTranspose<strides = [2, 2]>(x, up)", 4 * 36 * 3 * 2 * 2),
        ("n = MatMul(x, x)", 4 * 36 * 6),
        ("f = Flatten<axis = 3>(x) n = Gemm<transA = 1>(f, f)", 6 * 6 * 24),
        ('n = Einsum<equation = "nchw, ncwk -> nchk">(x, x)', 4 * 6 * 6 * 6),
        ("n = Relu(x)", 144),
        ("n = ReduceMean(x)", 144),
    ],
)
def test_work_is_multiply_adds(body: str, work: int) -> None:
    text = f"""g (float[1,4,6,6] x, float[4,2,3,3] half, float[4,3,2,2] up) => (n) {{ {body} }}"""
    graph = graph_of(text.replace("(n) {", "(float[?] n) {"))
    graph.outputs[0].shape = None
    ir.infer_shapes(graph)
    assert Costs({}).work(graph.nodes[-1]) == work


def refused(*names: str, options: Partitioning | None, text: str = CHAIN, **changes: Any) -> str:
    graph = graph_of(text)
    with pytest.raises(LegalityError) as caught:
        split_graph(graph, refusing(names, **changes), changes.get("host", ONNXRUNTIME), options, (1, 8, 8), {})
    return str(caught.value)


def test_without_hybrid_a_refused_node_is_an_error_that_names_it() -> None:
    text = refused("two", options=None)
    assert "private cannot run 1 node" in text and "Erf 'two'" in text and "--no-hybrid" in text


def test_a_target_that_would_do_next_to_nothing_refuses() -> None:
    text = refused("one", "two", "three", options=Partitioning())
    assert "private cannot run 3 nodes" in text and "hybrid: private would do" in text and "needs 10%" in text


def test_what_neither_runs_is_refused() -> None:
    text = CHAIN.replace("Erf(a)", "segc.Unknown(a)")
    graph = ir.from_model(parsed(text))
    graph.nodes[1].domain = "com.example"
    graph.nodes[1].outputs[0].dtype, graph.nodes[1].outputs[0].shape = np.dtype(np.float32), [1, 4, 8, 8]
    for tensor, node in zip("acd", (0, 2, 3), strict=True):
        assert graph.nodes[node].outputs[0].name == tensor
        graph.nodes[node].outputs[0].dtype, graph.nodes[node].outputs[0].shape = np.dtype(np.float32), [1, 4, 8, 8]
    with pytest.raises(LegalityError, match="onnxruntime does not run Unknown either"):
        split_graph(graph, refusing(()), ONNXRUNTIME, Partitioning(1, 0, 0), (1, 8, 8), {})


def test_a_graph_the_target_runs_is_not_split() -> None:
    assert split_graph(graph_of(CHAIN), refusing(()), ONNXRUNTIME, Partitioning(), (1, 8, 8), {}) is None
    assert split_graph(graph_of(CHAIN), refusing(()), ONNXRUNTIME, None, (1, 8, 8), {}) is None


def test_the_report_says_what_runs_where_and_why() -> None:
    graph, target = graph_of(CHAIN), refusing(["two"])
    made = split_graph(graph, target, ONNXRUNTIME, EVERYTHING, (1, 8, 8), {})
    assert made is not None
    report = plan_summary(graph, target, made)
    assert report["summary"] == "hybrid (3 segments, 1 node on host)"
    assert (report["segments"], report["host_nodes"], report["moved"]) == (3, 1, [])
    assert report["refused"] == ["it is on the list: 1 node"]


def test_a_boundary_of_unknown_type_is_refused() -> None:
    graph = graph_of(CHAIN)
    made = planned(graph, "two")
    made.segments[0].outputs[0].dtype = None
    with pytest.raises(CompileError, match="cannot be split at 'a'"):
        model_of(graph, made.segments[0])


@pytest.mark.parametrize("options", [{"min_nodes": 0}, {"work_per_byte": -1.0}, {"min_share": 1.5}])
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Partitioning(**options)
