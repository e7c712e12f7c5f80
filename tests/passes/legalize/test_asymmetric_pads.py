from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from segc.graph.invariants import INVARIANTS
from segc.passes.legalize.asymmetric_pads import LegalizeAsymmetricPads, cells_inside, same_pads, symmetric_part
from tests.helpers.checks import HEAD, HEAD20, check_numbers, check_pass, check_untouched, graph_of


def conv(shape: str, out: str, attrs: str) -> str:
    return (
        HEAD
        + f""" g (float[{shape}] x, float[3,2,3,3] w, float[3] b) => (float[{out}] y)
        {{ y = Conv <{attrs}> (x, w, b) }}"""
    )


def pool(op: str, shape: str, out: str, attrs: str, head: str = HEAD, kind: str = "float") -> str:
    return head + f" g ({kind}[{shape}] x) => ({kind}[{out}] y) {{ y = {op} <{attrs}> (x) }}"


def test_a_conv_keeps_what_both_ends_share() -> None:
    check_pass(
        LegalizeAsymmetricPads(),
        conv("N,2,7,W", "N,3,4,Q", "pads = [1, 0, 2, 1], strides = [2, 2]"),
        HEAD
        + """ g (float[N,2,7,W] x, float[3,2,3,3] w, float[3] b) => (float[N,3,4,Q] y)
        <int64[8] y_pads = {0, 0, 0, 0, 0, 0, 1, 1}, float y_value = {0}>
        { y_padded = Pad (x, y_pads, y_value)
          y = Conv <pads = [1, 0, 1, 0], strides = [2, 2]> (y_padded, w, b) }""",
        atol=1e-5,
    )


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
def test_auto_pad_is_written_out_and_even_padding_needs_no_pad(mode: str) -> None:
    graph = check_pass(
        LegalizeAsymmetricPads(), conv("1,2,6,7", "1,3,3,4", f'auto_pad = "{mode}", strides = [2, 2]'), None, atol=1e-5
    )
    assert [n.op for n in graph.nodes] == ["Pad", "Conv"]
    graph = check_pass(
        LegalizeAsymmetricPads(), conv("1,2,5,7", "1,3,3,4", f'auto_pad = "{mode}", strides = [2, 2]'), None, atol=1e-5
    )
    assert [n.op for n in graph.nodes] == ["Conv"] and list(graph.nodes[0].attrs["pads"]) == [1, 1, 1, 1]


def test_a_max_pool_is_padded_with_what_never_wins() -> None:
    graph = check_pass(
        LegalizeAsymmetricPads(),
        pool("MaxPool", "N,2,H,W", "N,2,P,Q", "kernel_shape = [3, 3], pads = [0, 0, 1, 1], strides = [2, 2]"),
        None,
    )
    assert [n.op for n in graph.nodes] == ["Pad", "MaxPool"]
    assert float(graph.nodes[0].inputs[2].values) == -np.inf


def test_integers_have_a_lowest_value_too() -> None:
    text = pool("MaxPool", "1,2,5,5", "1,2,5,5", "kernel_shape = [2, 2], pads = [0, 0, 1, 1]", kind="int8")
    graph = check_pass(LegalizeAsymmetricPads(), text, None)
    assert int(graph.nodes[0].inputs[2].values) == -128


def test_an_average_that_counts_its_padding_is_padded_with_zeros() -> None:
    attrs = "kernel_shape = [3, 2], pads = [1, 0, 2, 1], count_include_pad = 1"
    check_pass(
        LegalizeAsymmetricPads(),
        pool("AveragePool", "N,2,H,W", "N,2,P,Q", attrs),
        HEAD
        + """ g (float[N,2,H,W] x) => (float[N,2,P,Q] y)
        <int64[8] y_pads = {0, 0, 0, 0, 0, 0, 1, 1}, float y_value = {0}>
        { y_padded = Pad (x, y_pads, y_value)
          y = AveragePool <kernel_shape = [3, 2], pads = [1, 0, 1, 0], count_include_pad = 1> (y_padded) }""",
        atol=1e-6,
    )


def test_an_average_that_does_not_is_scaled_back() -> None:
    check_pass(
        LegalizeAsymmetricPads(),
        pool("AveragePool", "1,2,2,3", "1,2,2,3", "kernel_shape = [2, 1], pads = [0, 0, 1, 0]"),
        HEAD
        + """ g (float[1,2,2,3] x) => (float[1,2,2,3] y)
        <int64[8] y_pads = {0, 0, 0, 0, 0, 0, 1, 0}, float y_value = {0},
         float[1,1,2,3] y_factor = {1, 1, 1, 2, 2, 2}>
        { y_padded = Pad (x, y_pads, y_value)
          y_pooled = AveragePool <kernel_shape = [2, 1], pads = [0, 0, 0, 0], count_include_pad = 1> (y_padded)
          y = Mul (y_pooled, y_factor) }""",
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            pool("MaxPool", "1,2,6,6", "1,2,6,6", "kernel_shape = [2, 2], pads = [0, 0, 1, 1], ceil_mode = 1"),
            "its last window may start in the padding",
        ),
        (
            pool("AveragePool", "1,2,H,6", "1,2,P,6", "kernel_shape = [2, 2], pads = [0, 0, 1, 1]"),
            "side H is not static",
        ),
        (conv("1,2,H,6", "1,3,P,6", 'auto_pad = "SAME_UPPER"'), "side H is not static"),
        (
            HEAD
            + """ g (float[1,2,6,6] x) => (float[1,2,6,6] y, int64[1,2,6,6] i)
            { y, i = MaxPool <kernel_shape = [2, 2], pads = [0, 0, 1, 1]> (x) }""",
            "it has a second output, 'i'",
        ),
        (
            HEAD
            + """ g (float[1,2,6,6] x, float[3,2,K,3] w) => (float[1,3,6,6] y)
            { y = Conv <auto_pad = "SAME_UPPER"> (x, w) }""",
            "the kernel 'w' is not static",
        ),
    ],
)
def test_what_is_left_alone_says_why(text: str, reason: str) -> None:
    check_untouched(LegalizeAsymmetricPads(), text, reason)


def test_even_padding_is_none_of_our_business() -> None:
    check_untouched(LegalizeAsymmetricPads(), conv("1,2,H,W", "1,3,H,W", "pads = [1, 1, 1, 1]"), None)
    check_untouched(LegalizeAsymmetricPads(), pool("MaxPool", "1,2,6,6", "1,2,3,3", "kernel_shape = [4, 4]"), None)


def test_the_fact_names_what_breaks_it() -> None:
    even = graph_of(conv("1,2,H,W", "1,3,H,W", "pads = [1, 1, 1, 1]"))
    odd = graph_of(conv("1,2,H,W", "1,3,P,Q", "pads = [0, 1, 1, 1]"))
    auto = graph_of(conv("1,2,H,W", "1,3,H,W", 'auto_pad = "SAME_LOWER"'))
    assert INVARIANTS["symmetric pads"](even) is None
    assert "pads [0, 1, 1, 1]" in str(INVARIANTS["symmetric pads"](odd))
    assert "SAME_LOWER" in str(INVARIANTS["symmetric pads"](auto))


ends = st.integers(0, 2)


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(["Conv", "MaxPool", "AveragePool", "AveragePool all"]),
    st.tuples(st.integers(3, 9), st.integers(3, 9)),
    st.tuples(ends, ends, ends, ends),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER"]),
)
def test_all_kinds_and_sizes_keep_their_numbers(
    op: str, sides: tuple[int, int], pads: tuple[int, ...], strides: tuple[int, int], auto: str
) -> None:
    op, _, counting = op.partition(" ")
    attrs = f"kernel_shape = [3, 3], strides = {list(strides)}" + (", count_include_pad = 1" if counting else "")
    attrs += f', auto_pad = "{auto}"' if auto != "NOTSET" else f", pads = {list(pads)}"
    shape = f"1,2,{sides[0]},{sides[1]}"
    text = conv(shape, "1,3,P,Q", attrs) if op == "Conv" else pool(op, shape, "1,2,P,Q", attrs, HEAD20)
    original, graph = graph_of(text), graph_of(text)
    changed = LegalizeAsymmetricPads().run(graph).changes
    assume(changed)
    assert INVARIANTS["symmetric pads"](graph) is None
    check_numbers(original, graph.cleanup().toposort(), atol=1e-5)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=3), st.lists(st.integers(0, 5), min_size=3, max_size=3))
def test_the_parts_add_up_and_the_shared_part_is_even(before: list[int], after: list[int]) -> None:
    pads = [*before, *after[: len(before)]]
    shared, more = symmetric_part(pads)
    half = len(before)
    assert [a + b for a, b in zip(shared, more, strict=True)] == pads
    assert shared[:half] == shared[half:]
    assert all(more[i] == 0 or more[i + half] == 0 for i in range(half))


@given(st.integers(1, 30), st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), st.booleans())
def test_same_makes_as_many_windows_as_strides(side: int, kernel: int, stride: int, dilation: int, upper: bool) -> None:
    pads = same_pads(side, kernel, stride, dilation, upper)
    assert 0 <= (pads[1] - pads[0] if upper else pads[0] - pads[1]) <= 1
    if sum(pads):
        assert (side + sum(pads) - (kernel - 1) * dilation - 1) // stride + 1 == -(-side // stride)


@given(st.integers(1, 20), st.integers(1, 4), st.integers(1, 3), ends, ends)
def test_cells_inside_are_what_the_sum_of_ones_says(side: int, kernel: int, stride: int, low: int, high: int) -> None:
    assume(side + low + high >= kernel)
    ones = np.pad(np.ones(side), (low, high))
    want = [ones[i : i + kernel].sum() for i in range(0, len(ones) - kernel + 1, stride)]
    assert cells_inside(side, kernel, stride, 1, (low, high)).tolist() == want
