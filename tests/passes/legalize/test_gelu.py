from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segc.passes.legalize.gelu import LegalizeGelu
from segc.passes.support import evaluate
from tests.helpers.checks import HEAD20, check_pass, check_untouched, graph_of

NONE = HEAD20 + "g (float[N,3] x) => (float[N,3] y) { y = Gelu (x) }"
TANH = HEAD20 + 'g (float[N,3] x) => (float[N,3] y) { y = Gelu <approximate = "tanh"> (x) }'


def test_the_exact_form_becomes_erf() -> None:
    check_pass(
        LegalizeGelu(),
        NONE,
        HEAD20
        + """ g (float[N,3] x) => (float[N,3] y) <float y_half = {0.5}, float y_root = {0.70710678}>
        { y_inner = Mul (x, y_root)  y_erf = Erf (y_inner)  y_halved = Mul (y_erf, y_half)
          y_gate = Add (y_halved, y_half)  y = Mul (x, y_gate) }""",
        atol=1e-6,
    )


def test_the_tanh_form_becomes_tanh() -> None:
    check_pass(
        LegalizeGelu(),
        TANH,
        HEAD20
        + """ g (float[N,3] x) => (float[N,3] y)
        <float y_half = {0.5}, float y_root = {0.79788458}, float y_c = {0.044715}>
        { y_square = Mul (x, x)  y_cube = Mul (y_square, x)  y_cubic = Mul (y_cube, y_c)  y_sum = Add (x, y_cubic)
          y_inner = Mul (y_sum, y_root)  y_tanh = Tanh (y_inner)  y_halved = Mul (y_tanh, y_half)
          y_gate = Add (y_halved, y_half)  y = Mul (x, y_gate) }""",
        atol=1e-6,
    )


@pytest.mark.parametrize("text", [NONE, TANH])
def test_half_precision_stays_half_precision(text: str) -> None:
    graph = check_pass(LegalizeGelu(), text.replace("float[", "float16["), None, atol=5e-3)
    assert {t.dtype for t in graph.tensors().values()} == {np.dtype(np.float16)}


def test_an_unknown_form_is_left_alone() -> None:
    check_untouched(LegalizeGelu(), TANH.replace("tanh", "sigmoid"), "approximate is 'sigmoid'")


def test_a_graph_without_the_op_is_left_alone() -> None:
    check_untouched(LegalizeGelu(), NONE.replace("Gelu", "Relu"), None)


@settings(max_examples=50, deadline=None)
@given(st.floats(-30, 30, width=32), st.sampled_from(["none", "tanh"]))
def test_both_forms_agree_with_torch(value: float, form: str) -> None:
    torch = pytest.importorskip("torch")
    graph = graph_of(TANH if form == "tanh" else NONE)
    LegalizeGelu().run(graph)
    x = np.array([[value, -value, value / 2]], np.float32)
    want = torch.nn.functional.gelu(torch.from_numpy(x), approximate=form).numpy()
    np.testing.assert_allclose(evaluate.outputs(graph, {"x": x})["y"], want, atol=2e-6, rtol=1e-6)
