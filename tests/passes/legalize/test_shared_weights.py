from __future__ import annotations

import numpy as np
import pytest

from segc.passes.legalize.shared_weights import LegalizeSharedWeights
from segc.passes.support import evaluate
from tests.helpers.checks import HEAD, check_untouched, graph_of

CONV = "Conv <kernel_shape = [1, 1]>"
UP = "ConvTranspose <kernel_shape = [1, 1]>"
CONSTANTS = ", ".join(f"float[2] {name} = {{1, {at}}}" for at, name in enumerate("stmvc", 2))
WEIGHTS = f"<float[2,2,1,1] w = {{1, 2, 3, 4}}, {CONSTANTS}>"


def graph(body: str) -> str:
    return HEAD + f" g (float[1,2,3,3] x, float[1,2,3,3] z) => (float[1,2,3,3] y) {WEIGHTS} {{ {body} }}"


@pytest.mark.parametrize("op", [CONV, UP])
@pytest.mark.parametrize("bias", ["", ", c"])
def test_the_folded_convolution_gets_its_own(op: str, bias: str) -> None:
    made = graph_of(
        graph(f"a = {op} (x, w{bias})  b = BatchNormalization (a, s, t, m, v)  u = {op} (z, w{bias})  y = Sub (b, u)")
    )
    rng = np.random.default_rng(0)
    feeds = {name: rng.standard_normal((1, 2, 3, 3)).astype(np.float32) for name in "xz"}
    want = evaluate.outputs(made, feeds)["y"]
    assert LegalizeSharedWeights().run(made).changes == 1
    np.testing.assert_array_equal(evaluate.outputs(made, feeds)["y"], want)
    first, second = (node for node in made.nodes if node.op == op.split()[0])
    for mine, other in zip(first.inputs[1:], second.inputs[1:], strict=True):
        assert mine is not other
        assert len(mine.outputs) == len(other.outputs) == 1
        np.testing.assert_array_equal(mine.values, other.values)


def test_of_two_that_are_folded_the_last_keeps_the_constant() -> None:
    made = graph_of(
        graph(
            f"a = {CONV} (x, w)  b = BatchNormalization (a, s, t, m, v)  u = {CONV} (z, w)"
            "  d = BatchNormalization (u, s, t, m, v)  y = Sub (b, d)"
        )
    )
    assert LegalizeSharedWeights().run(made).changes == 1
    assert [node.inputs[1].name for node in made.nodes if node.op == "Conv"] == ["a_input1", "w"]


def test_a_constant_read_twice_by_one_normalization_is_copied() -> None:
    made = graph_of(graph(f"a = {CONV} (x, w)  y = BatchNormalization (a, s, t, t, t)"))
    assert LegalizeSharedWeights().run(made).changes == 1
    (node,) = (node for node in made.nodes if node.op == "BatchNormalization")
    assert [t.name for t in node.inputs[1:]] == ["s", "t", "y_input3", "y_input4"]


@pytest.mark.parametrize(
    "body",
    [
        f"a = {CONV} (x, w)  y = BatchNormalization (a, s, t, m, v)",
        f"a = {CONV} (x, w, c)  u = {CONV} (z, w, c)  y = Sub (a, u)",
        "a = Neg (x)  y = BatchNormalization (a, s, t, t, t)",
    ],
)
def test_what_is_read_once_or_not_folded_stays(body: str) -> None:
    check_untouched(LegalizeSharedWeights(), graph(body), None)
