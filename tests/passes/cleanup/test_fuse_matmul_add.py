from __future__ import annotations

import pytest

from segc.passes.cleanup.fuse_matmul_add import FuseMatmulAdd
from tests.helpers.checks import HEAD, check_pass, check_untouched

CONSTANTS = """<float[3,2] w = {1, 2, 3, 4, 5, 6}, float[2] b = {7, 8}, float[1,2] c = {7, 8}, float k = {2},
    float[5,2] rows = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1}, float[1,1,2] wide = {1, 2}, int64[3,2] i = {1, 2, 3, 4, 5, 6},
    int64[2] j = {1, 2}, float[3,1] thin = {1, 2, 3}>"""


def text(nodes: str, y: str = "float[N,2] y", x: str = "float[N,3] x") -> str:
    return f"{HEAD} g ({x}) => ({y}) {CONSTANTS} {{ {nodes} }}"


@pytest.mark.parametrize("add", ["Add (m, b)", "Add (b, m)", "Add (m, c)", "Add (m, k)"])
def test_a_product_and_its_bias_become_gemm(add: str) -> None:
    bias = next(name for name in "bck" if name in add[3:])
    check_pass(
        FuseMatmulAdd(),
        text(f"m = MatMul (x, w)  y = {add}"),
        text(f"y = Gemm <alpha = 1.0, beta = 1.0, transA = 0, transB = 0> (x, w, {bias})"),
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ("nodes", "y", "x", "reason"),
    [
        ("m = MatMul (x, w)  y = Add (m, b)", "float[2,N,2] y", "float[2,N,3] x", "the product has rank 3"),
        ("m = MatMul (x, w)  y = Add (m, rows)", "float[5,2] y", "float[5,3] x", "the bias has shape [5, 2]"),
        ("m = MatMul (x, w)  y = Add (m, wide)", "float[1,N,2] y", "float[N,3] x", "the bias has shape [1, 1, 2]"),
        ("m = MatMul (x, thin)  y = Add (m, b)", "float[N,2] y", "float[N,3] x", "the bias has shape [2]"),
        ("m = MatMul (x, i)  y = Add (m, j)", "int64[N,2] y", "int64[N,3] x", "the product is int64"),
        (
            "m = MatMul (x, w)  y = Add (m, b)  z = Neg (m)",
            "float[N,2] y, float[N,2] z",
            "float[N,3] x",
            "'m' is also used elsewhere",
        ),
        (
            "m = MatMul (x, w)  y = Add (m, b)",
            "float[N,2] y, float[N,2] m",
            "float[N,3] x",
            "'m' is also used elsewhere",
        ),
        ("m = MatMul (x, w)  y = Add (m, f)", "float[N,2] y", "float[N,3] x, float[2] f", None),
    ],
)
def test_what_gemm_cannot_say_stays(nodes: str, y: str, x: str, reason: str | None) -> None:
    check_untouched(FuseMatmulAdd(), text(nodes, y, x), reason)
