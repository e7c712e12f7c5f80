from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segc.graph import ir
from segc.passes.legalize.argmax import LegalizeArgMax, ranks
from segc.passes.support import evaluate
from tests.helpers.checks import HEAD20, check_pass, check_untouched, graph_of

SITE = "g (float[N,3,H] x) => (int64[N,1,H] y) { y = ArgMax <axis = 1> (x) }"


def test_it_becomes_a_comparison_with_the_maximum() -> None:
    check_pass(
        LegalizeArgMax(),
        HEAD20 + SITE,
        HEAD20
        + """ g (float[N,3,H] x) => (int64[N,1,H] y)
        <int64[1] y_most_axes = {1}, int64[1] y_best_axes = {1}, float[1,3,1] y_rank = {3, 2, 1},
         float[1,3,1] y_lose = {-3, -2, -1}, float y_one = {3}>
        { y_most = ReduceMax <keepdims = 1> (x, y_most_axes)  y_behind = Greater (y_most, x)
          y_behind_number = Cast <to = 1> (y_behind)  y_lost = Mul (y_behind_number, y_lose)
          y_kept = Add (y_lost, y_rank)  y_best = ReduceMax <keepdims = 1> (y_kept, y_best_axes)
          y_index = Sub (y_one, y_best)  y = Cast <to = 7> (y_index) }""",
    )


@pytest.mark.parametrize("attributes", ["axis = -1", "axis = 2, keepdims = 0", "select_last_index = 1", "axis = 1"])
@pytest.mark.parametrize("opset", [13, 20])
def test_every_form_gives_the_same_numbers(attributes: str, opset: int) -> None:
    shape = {"axis = -1": "4,5,1", "axis = 2, keepdims = 0": "4,5", "select_last_index = 1": "1,5,6"}.get(attributes)
    head = f'<ir_version: 9, opset_import: ["" : {opset}, "segc" : 1]>'
    text = f"g (float[4,5,6] x) => (int64[{shape or '4,1,6'}] y) {{ y = ArgMax <{attributes}> (x) }}"
    check_pass(LegalizeArgMax(), head + text, None)


TIED = arrays(np.float32, (2, 4, 3), elements=st.sampled_from([-2.5, 0.0, -0.0, 1.0, np.inf, -np.inf, 3.4e38]))


@settings(max_examples=50, deadline=None)
@given(TIED, st.booleans())
def test_ties_and_infinities_are_decided_as_by_argmax(x: np.ndarray, last: bool) -> None:
    graph = graph_of(
        HEAD20
        + f"""g (float[2,4,3] x) => (int64[2,3] y)
        {{ y = ArgMax <axis = 1, keepdims = 0, select_last_index = {int(last)}> (x) }}"""
    )
    want = 3 - x[:, ::-1].argmax(1) if last else x.argmax(1)
    assert LegalizeArgMax().run(graph).changes == 1
    np.testing.assert_array_equal(evaluate.outputs(ir.cleanup(graph), {"x": x})["y"], want)


@given(st.integers(1, 300), st.booleans())
def test_the_cell_that_is_chosen_among_equals_ranks_highest(count: int, last: bool) -> None:
    assert int(ranks(count, last).argmax()) == (count - 1 if last else 0)
    assert ranks(count, last).min() == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("g (int32[2,3] x) => (int64[1,3] y) { y = ArgMax (x) }", "'x' is int32"),
        ("g (float[N,3] x) => (int64[1,3] y) { y = ArgMax (x) }", "the size of axis 0 is unknown"),
        ("g (float16[2,4096] x) => (int64[2,1] y) { y = ArgMax <axis = 1> (x) }", "4096 cells are more than float16"),
    ],
)
def test_what_cannot_be_exact_is_left_alone(text: str, reason: str) -> None:
    check_untouched(LegalizeArgMax(), reason=reason, text=HEAD20 + text)
