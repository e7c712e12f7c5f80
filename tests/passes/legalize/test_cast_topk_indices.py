from __future__ import annotations

import onnx_graphsurgeon as gs

from segc.passes.legalize.cast_topk_indices import CastTopKIndices
from tests.helpers.checks import HEAD, check_pass, check_untouched, graph_of

FORM = (
    HEAD
    + """ g (float[N,5] x) => (float[N,2] y) <int64[1] k = {{2}}, int64[1] one = {{1}}>
    {{ v, i = TopK (x, k) {cast} w = Add ({used}, one)  s = Sub (w, {used})
       y = GatherElements <axis = 1> (x, s) }}"""
)


def test_every_reader_gets_the_cast() -> None:
    check_pass(
        CastTopKIndices(),
        FORM.format(cast="", used="i"),
        FORM.format(cast="i_wide = Cast <to = 7> (i)", used="i_wide"),
    )


def test_casts_are_enough() -> None:
    check_untouched(CastTopKIndices(), FORM.format(cast="j = Cast <to = 7> (i)", used="j"), None)


def test_what_the_graph_gives_is_written_by_the_cast() -> None:
    text = (
        HEAD
        + """ g (float[N,5] x) => (int64[N,2] i, float[N,2] y) <int64[1] k = {{2}}>
        {{ {top}  y = GatherElements <axis = 1> (x, i) }}"""
    )
    check_pass(
        CastTopKIndices(),
        text.format(top="v, i = TopK (x, k)"),
        text.format(top="v, i_narrow = TopK (x, k)  i = Cast <to = 7> (i_narrow)"),
    )
    nobody = HEAD + " g (float[N,5] x) => (float[N,2] v, int64[N,2] i) <int64[1] k = {{2}}> {{ {top} }}"
    check_pass(
        CastTopKIndices(),
        nobody.format(top="v, i = TopK (x, k)"),
        nobody.format(top="v, i_narrow = TopK (x, k)  i = Cast <to = 7> (i_narrow)"),
    )


def test_what_a_subgraph_gives_is_left_alone() -> None:
    text = (
        HEAD
        + """ g (float[N,5] x, bool c) => (int64[N,2] y) <int64[1] k = {2}>
        { v, i = TopK (x, k)  y = If (c) <
            then_branch = a () => (int64[N,2] t) { t = Neg (i) }, else_branch = b () => (int64[N,2] e) { e = Abs (i) }
        > }"""
    )
    graph = graph_of(text)
    for subgraph in graph.subgraphs():
        subgraph.nodes.clear()
        subgraph.outputs = [graph.nodes[0].outputs[1]]
    result = CastTopKIndices().run(graph)
    assert result.changes == 0 and [skip.reason for skip in result.skips] == ["'i' is the output of a subgraph"]


def test_indices_that_nobody_reads_get_no_cast() -> None:
    text = HEAD + " g (float[N,5] x) => (float[N,2] v) <int64[1] k = {2}> { v, i = TopK (x, k) }"
    check_untouched(CastTopKIndices(), text, None)
    graph = graph_of(text)
    graph.nodes[0].outputs[1] = gs.Variable.empty()
    result = CastTopKIndices().run(graph)
    assert (result.changes, result.skips, len(graph.nodes)) == (0, [], 1)


def test_a_sorted_graph_stays_sorted() -> None:
    graph = graph_of(
        FORM.format(cast="", used="i").replace("TopK (x, k)", "TopK (r, k)").replace("v,", "r = Relu (x) v,")
    )
    assert CastTopKIndices().run(graph).changes == 1
    assert [node.op for node in graph.nodes[:3]] == ["Relu", "TopK", "Cast"]
