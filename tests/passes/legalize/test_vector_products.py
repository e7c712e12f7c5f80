from __future__ import annotations

import pytest

from segc.passes.legalize.vector_products import LegalizeVectorProducts
from tests.helpers.checks import HEAD, check_pass, check_untouched, graph_of


def test_a_vector_on_the_left_is_a_row() -> None:
    check_pass(
        LegalizeVectorProducts(),
        HEAD + " g (float[3] v, float[3,4] b) => (float[4] y) { y = MatMul (v, b) }",
        HEAD
        + """ g (float[3] v, float[3,4] b) => (float[4] y) <int64[1] y_row_axes = {0}, int64[1] y_vector_axes = {0}>
        { y_row = Unsqueeze (v, y_row_axes)  y_product = MatMul (y_row, b)
          y = Squeeze (y_product, y_vector_axes) }""",
        atol=1e-6,
    )


@pytest.mark.parametrize(
    "signature",
    [
        "(float[N,2,3] a, float[3] b) => (float[N,2] y)",
        "(float[3] a, float[N,3,4] b) => (float[N,4] y)",
        "(float[3] a, float[3] b) => (float y)",
    ],
)
@pytest.mark.parametrize("head", [HEAD, HEAD.replace("17", "11")])
def test_each_side_may_be_a_vector(signature: str, head: str) -> None:
    check_pass(LegalizeVectorProducts(), head + f" g {signature} {{ y = MatMul (a, b) }}", None, atol=1e-5)


def test_matrices_are_left_alone() -> None:
    text = HEAD + " g (float[N,3] a, float[3,4] b) => (float[N,4] y) { y = MatMul (a, b) }"
    check_untouched(LegalizeVectorProducts(), text, None)


def test_an_unknown_rank_is_left_alone() -> None:
    graph = graph_of(HEAD + " g (float[N,3] a, float[3,4] b) => (float[N,4] y) { y = MatMul (a, b) }")
    graph.inputs[0].shape = None
    result = LegalizeVectorProducts().run(graph)
    assert result.changes == 0 and "rank of 'a' is unknown" in result.skips[0].reason
