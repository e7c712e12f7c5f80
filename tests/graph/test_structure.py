from __future__ import annotations

import pytest

from segc.graph import ir, structure
from tests.helpers.checks import HEAD, graph_of
from tests.helpers.tiny_models import parsed

BODY = "c = Conv <pads = [1, 1, 1, 1]> (x, w)  r = Relu (c)  y = Reshape (r, s)"


def digest(body: str = BODY, w: str = "float[2,2,3,3] w", s: str = "{2, -1}", x: str = "float[1,2,4,4] x") -> str:
    weights = "<" + w + " = {" + ", ".join(["0.5"] * 36) + "}, int64[2] s = " + s + ">"
    return structure.digest(ir.from_model(parsed(f"g ({x}) => (float[N,M] y) {weights} {{ {body} }}", 17)))


def test_names_and_weights_do_not_count() -> None:
    other = BODY.replace("c =", "k =").replace("Relu (c)", "Relu (k)")
    assert digest() == digest(other)
    text = HEAD + " g (float[2] x) => (float[2] y) <float k = {%s}> { y = Mul (x, k) }"
    assert structure.digest(graph_of(text % "1")) == structure.digest(graph_of(text % "2"))


@pytest.mark.parametrize(
    "changes",
    [
        {"body": BODY.replace("Relu", "Exp")},
        {"body": BODY.replace("pads = [1, 1, 1, 1]", "pads = [1, 1, 1, 1], group = 1")},
        {"body": BODY.replace("Relu (c)", "Relu (x)")},
        {"s": "{-1, 2}"},
        {"x": "float[1,2,4,5] x"},
    ],
)
def test_ops_attributes_edges_integers_and_shapes_do(changes: dict[str, str]) -> None:
    assert digest(**changes) != digest()
