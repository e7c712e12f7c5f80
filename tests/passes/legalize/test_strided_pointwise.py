from __future__ import annotations

import numpy as np
import pytest

from segc.graph import ir
from segc.passes.legalize.strided_pointwise import LegalizeStridedPointwise
from segc.passes.support import evaluate
from tests.helpers.checks import HEAD, check_untouched, graph_of

SPLIT = "a, b = Split <axis = 1> (x, k)"
CONV = "Conv <strides = [2, 2]>"
WEIGHTS = "<int64[2] k = {1, 1}, float[2,1,1,1] w = {2, -3}, float[2,1,3,3] v = {1, 2, 3, 4, 5, 6, 7, 8, 9,"
WEIGHTS += " 9, 8, 7, 6, 5, 4, 3, 2, 1}, float[2] c = {0.5, 1}>"


def graph(body: str, y: str = "1,2,3,4") -> str:
    return HEAD + f" g (float[1,2,5,7] x) => (float[{y}] y) {WEIGHTS} {{ {body} }}"


@pytest.mark.parametrize(
    ("body", "y"),
    [
        (f"{SPLIT}  d = Add (a, a)  y = {CONV} (d, w)", "1,2,3,4"),
        (f"{SPLIT}  d = Relu (b)  e = Tanh (d)  y = {CONV} (e, w, c)", "1,2,3,4"),
        (f"{SPLIT}  d = Sub (a, b)  y = Conv <strides = [2, 1]> (d, w)", "1,2,3,7"),
        (f"{SPLIT}  d = Exp (a)  y = Conv <strides = [2, 2], pads = [1, 0, 1, 1]> (d, w, c)", "1,2,4,4"),
    ],
)
def test_the_stride_becomes_a_slice(body: str, y: str) -> None:
    made = graph_of(graph(body, y))
    x = np.random.default_rng(0).standard_normal((1, 2, 5, 7)).astype(np.float32)
    want = evaluate.outputs(made, {"x": x})["y"]
    assert LegalizeStridedPointwise().run(made).changes == 1
    conv = next(node for node in made.nodes if node.op == "Conv")
    assert "strides" not in conv.attrs and conv.inputs[0].inputs[0].op == "Slice"
    np.testing.assert_array_equal(evaluate.outputs(ir.cleanup(made), {"x": x})["y"], want)


@pytest.mark.parametrize(
    ("body", "y"),
    [
        (f"{SPLIT}  y = {CONV} (a, w)", "1,2,3,4"),
        (f"{SPLIT}  d = Add (a, a)  y = Conv (d, w)", "1,2,5,7"),
        (f"{SPLIT}  d = Add (a, a)  y = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (d, v)", "1,2,3,4"),
        ("a = Relu (x)  y = Conv <strides = [2, 2], group = 2> (a, w)", "1,2,3,4"),
        (f"{SPLIT}  d = Add (a, a)  y = Conv <strides = [2, 2], auto_pad = \"SAME_UPPER\"> (d, w)", "1,2,3,4"),
    ],
)  # fmt: skip
def test_other_convolutions_stay(body: str, y: str) -> None:
    check_untouched(LegalizeStridedPointwise(), graph(body, y), None)
