from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segc.passes.performance.expand_top2 import ExpandTop2
from segc.passes.support import evaluate
from tests.helpers.checks import HEAD20, apply, check_pass, check_untouched, graph_of


def text(x: str, y: str, attributes: str = "axis = 1", outputs: str = "y, i", count: int = 2, more: str = "") -> str:
    return (
        f"{HEAD20} g (float[{x}] x) => (float[{y}] y{more}) <int64[1] k = {{{count}}}>"
        f" {{ {outputs} = TopK <{attributes}> (x, k) }}"
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 40), st.integers(0, 3), st.sampled_from([0, 1, 2]), st.integers(0, 2**31))
def test_the_two_largest_are_those_of_topk(size: int, values: int, axis: int, seed: int) -> None:
    """values: how many different numbers there are, 0 for any."""
    shape = [2, 3, 2, 5]
    shape[axis] = size
    out = [2 if at == axis else side for at, side in enumerate(shape)]
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape) if values == 0 else rng.choice([1.0, -np.inf, np.inf][:values], shape)
    graph = graph_of(text(",".join(map(str, shape)), ",".join(map(str, out)), f"axis = {axis}"))
    assert apply(ExpandTop2(), graph).changes == 1
    found = evaluate.outputs(graph, {"x": x.astype(np.float32)})["y"]
    np.testing.assert_array_equal(found, -np.sort(-x.astype(np.float32), axis)[*[slice(None)] * axis, :2])


def test_pixels_may_be_any_number() -> None:
    source = text("N,3,H,W", "N,2,H,W", "axis = -3, sorted = 0")
    graph = graph_of(source)
    assert apply(ExpandTop2(), graph).changes == 1
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
    np.testing.assert_array_equal(evaluate.outputs(graph, {"x": x})["y"], -np.sort(-x, 1)[:, :2])


def test_two_of_two_are_put_in_order() -> None:
    graph = check_pass(ExpandTop2(), text("1,2,3", "1,2,3"), None)
    assert [node.op for node in graph.nodes] == ["Split", "Min", "Max", "Concat"]


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (text("1,5,3", "1,3,3", count=3), "k is not 2"),
        (text("1,5,3", "1,2,3", more=", int64[1,2,3] i"), "'i' are used"),
        (text("1,5,3", "1,2,3", more=", int64[1,2,3] j").replace("(x, k)", "(x, k)  j = Neg (i)"), "'i' are used"),
        (text("1,5,3", "1,2,3", "axis = 1, largest = 0"), "takes the smallest"),
        (text("1,1,3", "1,2,3"), "is unknown"),
        (
            f"""{HEAD20} g (float[30] x, int64[r] s) => (float[A,B] y) <int64[1] k = {{2}}>
            {{ t = Reshape (x, s)  y, i = TopK <axis = 1> (t, k) }}""",
            "the rank of 't' is unknown",
        ),
        (text("1,3,5", "1,3,2", "axis = 2"), "last axis"),
        (text("1,3,5", "1,3,2", "axis = -1"), "last axis"),
        (text("1,C,5", "1,2,5"), "is unknown"),
        (text("1,5,3", "1,2,3").replace('"" : 20', '"" : 17'), "needs opset 18"),
    ],
)
def test_others_are_left_alone(source: str, why: str) -> None:
    check_untouched(ExpandTop2(), source, why)
