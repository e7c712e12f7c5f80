from __future__ import annotations

from checks import HEAD, check_pass, check_untouched, graph_of

from segc.passes import RecastIndices

FORM = (
    HEAD
    + """ g (float[N,5] x) => (float[N,2] y) <int64[1] k = {{2}}, int64[1] one = {{1}}>
    {{ v, i = TopK (x, k) {cast} w = Add ({used}, one)  s = Sub (w, {used})
       y = GatherElements <axis = 1> (x, s) }}"""
)


def test_every_reader_gets_the_cast() -> None:
    check_pass(
        RecastIndices(),
        FORM.format(cast="", used="i"),
        FORM.format(cast="i_wide = Cast <to = 7> (i)", used="i_wide"),
    )


def test_casts_are_enough() -> None:
    check_untouched(RecastIndices(), FORM.format(cast="j = Cast <to = 7> (i)", used="j"), None)


def test_an_output_is_left_alone() -> None:
    text = (
        HEAD
        + """ g (float[N,5] x) => (int64[N,2] i, float[N,2] y) <int64[1] k = {2}>
        { v, i = TopK (x, k)  y = GatherElements <axis = 1> (x, i) }"""
    )
    graph = graph_of(text)
    result = RecastIndices().run(graph)
    assert result.changes == 0 and result.skips[0].reason == "'i' is an output"
