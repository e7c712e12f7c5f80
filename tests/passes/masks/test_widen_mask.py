from __future__ import annotations

from segc.graph.invariants import INVARIANTS
from segc.passes.masks.widen_mask import WidenMask
from tests.helpers.checks import HEAD, check_pass, check_untouched, graph_of


def test_the_winner_is_the_mask() -> None:
    graph = check_pass(
        WidenMask(),
        HEAD
        + """ g (float[N,3,H,W] x) => (uint8[N,H,W] mask)
        { i = ArgMax <axis = 1, keepdims = 0> (x)  mask = Cast <to = 2> (i) }""",
        HEAD + " g (float[N,3,H,W] x) => (int64[N,H,W] mask) { mask = ArgMax <axis = 1, keepdims = 0> (x) }",
        same_outputs=False,
    )
    assert INVARIANTS["mask output"](graph) is None


def test_a_comparison_is_cast_to_int64() -> None:
    check_pass(
        WidenMask(),
        HEAD
        + """ g (float[N,H,W] x) => (uint8[N,H,W] mask) <float c = {0}>
        { a = Greater (x, c)  mask = Cast <to = 2> (a) }""",
        HEAD
        + """ g (float[N,H,W] x) => (int64[N,H,W] mask) <float c = {0}>
        { a = Greater (x, c)  mask = Cast <to = 7> (a) }""",
        same_outputs=False,
    )


def test_other_outputs_are_left_alone() -> None:
    check_untouched(WidenMask(), HEAD + " g (int64[N,H] x) => (uint8[N,H] y) { y = Cast <to = 2> (x) }", None)
    check_untouched(WidenMask(), HEAD + " g (float[N,H,W] x) => (float[N,H,W] y) { y = Relu (x) }", None)


def test_a_winner_that_is_an_output_too_is_left_alone() -> None:
    text = (
        HEAD
        + """ g (float[N,3,H,W] x) => (uint8[N,H,W] mask, int64[N,H,W] i)
        { i = ArgMax <axis = 1, keepdims = 0> (x)  mask = Cast <to = 2> (i) }"""
    )
    graph = graph_of(text)
    result = WidenMask().run(graph)
    assert result.changes == 0 and "are both outputs" in result.skips[0].reason


def test_a_mask_that_no_cast_makes_is_left_alone() -> None:
    check_untouched(WidenMask(), HEAD + " g (uint8[N,H] mask) => (uint8[N,H] mask) { }", None)
    check_untouched(WidenMask(), HEAD + " g (uint8[N,H] x) => (uint8[N,H] mask) { mask = Add (x, x) }", None)
