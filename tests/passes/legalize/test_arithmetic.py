from __future__ import annotations

import numpy as np
import pytest

from segc.graph import ir
from segc.passes.legalize.arithmetic import LegalizeArithmetic
from segc.passes.support import evaluate
from tests.helpers.checks import HEAD, HEAD20, check_pass, check_untouched, graph_of


def unary(op: str, kind: str = "float") -> str:
    return HEAD + f" g ({kind}[N,4] x) => ({kind}[N,4] y) {{ y = {op} (x) }}"


def test_a_magnitude_is_the_sum_of_both_halves() -> None:
    check_pass(
        LegalizeArithmetic(),
        unary("Abs"),
        HEAD
        + """ g (float[N,4] x) => (float[N,4] y)
        { y_negative = Neg (x)  y_below = Relu (y_negative)  y_above = Relu (x)  y = Add (y_above, y_below) }""",
    )


def test_an_inverse_is_a_quotient() -> None:
    check_pass(
        LegalizeArithmetic(),
        unary("Reciprocal"),
        HEAD + " g (float[N,4] x) => (float[N,4] y) <float y_one = {1}> { y = Div (y_one, x) }",
    )


def test_a_mean_of_several_is_a_sum_by_their_number() -> None:
    text = HEAD + " g (float[N,4] x, float[4] b, float[N,1] c) => (float[N,4] y) { y = Mean (x, b, c) }"
    check_pass(LegalizeArithmetic(), text, None, atol=1e-6)


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("op", ["ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceSumSquare"])
@pytest.mark.parametrize("axes", ["", "axes = [1], ", "axes = [-2, -1], "])
def test_norms_are_sums(op: str, axes: str, keepdims: int) -> None:
    text = HEAD + f" g (float[2,3,4] x) => (float[A,B,C] y) {{ y = {op} <{axes}keepdims = {keepdims}> (x) }}"
    text = text.replace("float[A,B,C]", "float")
    graph = graph_of(text)
    graph.outputs[0].shape = None
    ir.infer_shapes(graph)
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    want = evaluate.outputs(graph, {"x": x})["y"]
    assert LegalizeArithmetic().run(graph).changes == 1
    got = evaluate.outputs(ir.cleanup(graph), {"x": x})["y"]
    np.testing.assert_allclose(got, want, rtol=1e-6)
    assert got.shape == want.shape


def test_axes_may_be_an_input() -> None:
    text = HEAD20 + """ g (float[N,4] x) => (float[N,1] y) <int64[1] a = {-1}> { y = ReduceL2 (x, a) }"""
    check_pass(LegalizeArithmetic(), text, None, atol=1e-6)


def test_no_axes_may_mean_nothing_is_summed() -> None:
    text = HEAD20 + """ g (float[N,4] x) => (float[N,4] y) { y = ReduceL1 <noop_with_empty_axes = 1> (x) }"""
    check_pass(LegalizeArithmetic(), text, None)


def test_a_remainder_has_the_sign_of_its_divisor() -> None:
    text = HEAD + " g (int64[9] x) => (int64[9] y) <int64 m = {4}> { y = Mod (x, m) }"
    graph = check_pass(LegalizeArithmetic(), text, None)
    x = np.arange(-4, 5)
    np.testing.assert_array_equal(evaluate.outputs(graph, {"x": x})["y"], np.mod(x, 4))


def test_the_greatest_of_a_map_is_a_reduction() -> None:
    text = HEAD + " g (float[N,2,H,W] x) => (float[N,2,1,1] y) { y = GlobalMaxPool (x) }"
    check_pass(LegalizeArithmetic(), text, None)


@pytest.mark.parametrize(("op", "strict"), [("GreaterOrEqual", "Less"), ("LessOrEqual", "Greater")])
def test_integers_that_are_not_less_are_greater_or_equal(op: str, strict: str) -> None:
    check_pass(
        LegalizeArithmetic(),
        HEAD + f" g (int64[N,4] a, int64[4] b) => (bool[N,4] y) {{ y = {op} (a, b) }}",
        HEAD + f" g (int64[N,4] a, int64[4] b) => (bool[N,4] y) {{ y_strict = {strict} (a, b)  y = Not (y_strict) }}",
    )


def test_a_power_of_integers_is_a_product() -> None:
    text = HEAD + " g (int64[N,4] x) => (int64[N,4] y) <int64 n = {%d}> { y = Pow (x, n) }"
    check_pass(
        LegalizeArithmetic(),
        text % 3,
        HEAD + " g (int64[N,4] x) => (int64[N,4] y) { y_power2 = Mul (x, x)  y = Mul (y_power2, x) }",
    )
    check_pass(LegalizeArithmetic(), text % 1, None)
    check_untouched(LegalizeArithmetic(), text % 0, "not a constant from 1 to 8")
    floats = " g (float[4] x) => (float[4] y) <float n = {2}> { y = Pow (x, n) }"
    check_untouched(LegalizeArithmetic(), HEAD + floats, None)


@pytest.mark.parametrize(("op", "strict"), [("Min", "Less"), ("Max", "Greater")])
def test_the_least_of_integers_is_chosen(op: str, strict: str) -> None:
    check_pass(
        LegalizeArithmetic(),
        HEAD + f" g (int64[N,4] a, int64[4] b, int64 c) => (int64[N,4] y) {{ y = {op} (a, b, c) }}",
        HEAD
        + f""" g (int64[N,4] a, int64[4] b, int64 c) => (int64[N,4] y)
        {{ y_wins0 = {strict} (a, b)  y_chosen0 = Where (y_wins0, a, b)
           y_wins1 = {strict} (y_chosen0, c)  y = Where (y_wins1, y_chosen0, c) }}""",
    )
    check_untouched(LegalizeArithmetic(), HEAD + f" g (float[4] a) => (float[4] y) {{ y = {op} (a, a) }}", None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (unary("Abs", "int64"), "'x' is int64"),
        (HEAD + " g (float[4] x) => (float[4] y) <float m = {4}> { y = Mod <fmod = 1> (x, m) }", "'x' is float32"),
        (HEAD + " g (int64[4] x) => (int64[4] y) <int64 m = {-4}> { y = Mod (x, m) }", "not a positive constant"),
        (HEAD + " g (int64[4] x, int64 m) => (int64[4] y) { y = Mod (x, m) }", "not a positive constant"),
        (HEAD + " g (float[4] a, float[4] b) => (bool[4] y) { y = GreaterOrEqual (a, b) }", "'a' is float32"),
        (
            HEAD20 + " g (float[3,4] x, int64[1] a) => (float[3,1] y) { y = ReduceL2 (x, a) }",
            "axes are computed at run time",
        ),
        (HEAD + " g (int64[4] x) => (int64[1] y) { y = ReduceL1 <axes = [0]> (x) }", "'x' is int64"),
    ],
)
def test_what_is_left_alone_says_why(text: str, reason: str) -> None:
    check_untouched(LegalizeArithmetic(), text, reason)


def test_a_hard_sigmoid_is_a_line_that_is_cut_off() -> None:
    check_pass(
        LegalizeArithmetic(),
        HEAD + " g (float[N,4] x) => (float[N,4] y) { y = HardSigmoid <alpha = 0.25> (x) }",
        HEAD
        + """ g (float[N,4] x) => (float[N,4] y)
        <float y_alpha = {0.25}, float y_beta = {0.5}, float y_least = {0}, float y_most = {1}>
        { y_scaled = Mul (x, y_alpha)  y_line = Add (y_scaled, y_beta)  y = Clip (y_line, y_least, y_most) }""",
    )


def test_a_sum_of_several_is_a_chain() -> None:
    check_pass(
        LegalizeArithmetic(),
        HEAD + " g (float[N,4] a, float[4] b, float[N,1] c) => (float[N,4] y) { y = Sum (a, b, c) }",
        HEAD
        + """ g (float[N,4] a, float[4] b, float[N,1] c) => (float[N,4] y)
        { y_sum0 = Add (a, b)  y = Add (y_sum0, c) }""",
    )


def test_only_what_is_named_is_rewritten() -> None:
    check_untouched(LegalizeArithmetic(("Reciprocal",)), unary("Abs"), None)


@pytest.mark.parametrize(
    ("exponent", "x", "out"),
    [("int64 n", "N,4", "N,4"), ("int64[4] n = {2, 3, 2, 1}", "N,4", "N,4"), ("int64[1,1,1] n = {2}", "4,4", "1,4,4")],
    ids=["computed", "several", "of a higher rank"],
)
def test_other_exponents_of_integers_are_left_alone(exponent: str, x: str, out: str) -> None:
    given, stored = (f", {exponent}", "") if "=" not in exponent else ("", f"<{exponent}>")
    text = HEAD + f" g (int64[{x}] x{given}) => (int64[{out}] y) {stored} {{ y = Pow (x, n) }}"
    check_untouched(LegalizeArithmetic(), text, "'n' is not a constant from 1 to 8")


@pytest.mark.parametrize("kind", ["float", "int64"])
def test_a_sign_is_chosen(kind: str) -> None:
    graph = graph_of(unary("Sign", kind))
    x = np.array([[-3, 0, 2, 1], [-1, 0, 0, 5]]).astype(np.float32 if kind == "float" else np.int64)
    if kind == "float":
        x[0] = [np.nan, -np.inf, -0.0, 1e-45]
    want = evaluate.outputs(graph, {"x": x})["y"]
    assert LegalizeArithmetic().run(graph).changes == 1
    assert {node.op for node in graph.nodes} == {"Less", "Greater", "Where"}
    np.testing.assert_array_equal(evaluate.outputs(ir.cleanup(graph), {"x": x})["y"], want)


def test_a_sign_of_unsigned_numbers_stays() -> None:
    assert LegalizeArithmetic().run(graph_of(unary("Sign", "uint8"))).changes == 0
