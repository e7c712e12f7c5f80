from __future__ import annotations

import numpy as np

from segc.passes.precision.materialize_fp16_rounding import MaterializeFp16Rounding
from segc.passes.support import evaluate
from tests.helpers.checks import HEAD20, apply, check_untouched, graph_of

TEXT = (
    HEAD20
    + """g (float[N,3] x) => (float[N,3] y) <float16[3] k = {11878, 16384, 16896}> {
    h = Cast <to = 10> (x)  a = Sin (h)  b = Mul (a, k)  c = Transpose (b)
    d = Transpose (c)  y = Cast <to = 1> (d) }"""
)


def test_every_rounding_that_the_types_ask_for_happens() -> None:
    graph = graph_of(TEXT)
    result = apply(MaterializeFp16Rounding(), graph)
    assert result.changes == 3  # the cast, the sine and the product; a transposition rounds nothing
    x = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
    h = x.astype(np.float16).astype(np.float32)
    a = np.sin(h).astype(np.float16).astype(np.float32)
    k = np.array([11878, 16384, 16896], np.uint16).view(np.float16).astype(np.float32)
    want = (a * k).astype(np.float16).astype(np.float32)
    got = evaluate.outputs(graph, {"x": x})["y"]
    assert (got == want).mean() > 0.98  # a sine of another library may fall on the other side of a tie
    np.testing.assert_allclose(got, want, rtol=1e-3)
    assert apply(MaterializeFp16Rounding(), graph).changes == 0


def test_only_casts_compute_with_float16_afterwards() -> None:
    graph = graph_of(TEXT)
    apply(MaterializeFp16Rounding(), graph)
    others = [t for n in graph.nodes if n.op != "Cast" for t in [*n.inputs, *n.outputs]]
    assert others and all(t.dtype == np.float32 for t in others)


def test_a_graph_in_float32_is_left_alone() -> None:
    check_untouched(MaterializeFp16Rounding(), HEAD20 + "g (float[N,3] x) => (float[N,3] y) { y = Sin (x) }", None)


def test_integers_and_float32_beside_it_stay() -> None:
    text = """g (float[2,3] x) => (float[3,2] y, float[2,3] z) <int64[2] sizes = {3, 2}, float k = {0.1}> {
        h = Cast <to = 10> (x)  r = Reshape (h, sizes)  s = Sin (r)  y = Cast <to = 1> (s)  z = Mul (x, k) }"""
    graph = graph_of(HEAD20 + text)
    x = np.array([[0.1, 1, 2], [3, 4, 5]], np.float32)
    before = evaluate.outputs(graph, {"x": x})
    assert apply(MaterializeFp16Rounding(), graph).changes == 2
    after = evaluate.outputs(graph, {"x": x})
    np.testing.assert_array_equal(after["z"], before["z"])
    np.testing.assert_allclose(after["y"], before["y"], atol=1e-3)
