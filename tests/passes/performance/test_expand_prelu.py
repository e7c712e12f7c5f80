from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
import onnxruntime
import pytest

from segc.graph import ir
from segc.passes.performance.expand_prelu import ExpandPRelu
from segc.passes.support import evaluate
from tests.helpers.checks import HEAD20, check_pass, check_untouched, graph_of


def test_prelu_becomes_two_terms_of_which_one_is_zero() -> None:
    check_pass(
        ExpandPRelu(),
        HEAD20 + "g (float[1,2,3] x) => (float[1,2,3] y) <float[2,1] s = {-1.5, 2}> { y = PRelu (x, s) }",
        HEAD20
        + """ g (float[1,2,3] x) => (float[1,2,3] y) <float[2,1] s = {-1.5, 2}, float y_zero = {0}>
        { y_below = Min (x, y_zero)  y_scaled = Mul (y_below, s)  y_above = Relu (x)  y = Add (y_above, y_scaled) }""",
        atol=0,
    )


def test_slopes_up_to_one_take_the_greater_of_two() -> None:
    check_pass(
        ExpandPRelu(),
        HEAD20 + "g (float[1,2,3] x) => (float[1,2,3] y) <float[2,1] s = {0.25, 1}> { y = PRelu (x, s) }",
        HEAD20
        + """ g (float[1,2,3] x) => (float[1,2,3] y) <float[2,1] s = {0.25, 1}>
        { y_scaled = Mul (x, s)  y = Max (x, y_scaled) }""",
        atol=0,
    )


def test_channels_that_lie_in_blocks_stay_there() -> None:
    slopes = ", ".join(str(at / 4 - 2) for at in range(16))
    graph = check_pass(
        ExpandPRelu(),
        HEAD20
        + f"g (float[2,16,3,5] x) => (float[2,16,3,5] y) <float[16,1,1] s = {{{slopes}}}> {{ y = PRelu (x, s) }}",
        None,
        atol=0,
    )
    assert [n.op for n in graph.nodes] == ["BatchNormalization", "Relu", "BatchNormalization", "Relu", "Add"]


def run(graph: gs.Graph, x: np.ndarray) -> np.ndarray:
    """In ONNX Runtime."""
    model = ir.to_model(graph).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


SPECIAL = np.array([0, -0.0, 1.5, -1.5, np.inf, -np.inf, np.nan, 3e38, -1e-40], np.float32)


@pytest.mark.parametrize("slope", [0.0, 0.25, 1.0, -3.0, 1.5])
@pytest.mark.parametrize("channels", [1, 3, 16, 32])
@pytest.mark.parametrize("each", [True, False], ids=["a slope for each channel", "one slope"])
def test_every_number_gives_the_same(slope: float, channels: int, each: bool) -> None:
    """Compared with NumPy, in the reference and in ONNX Runtime, which has kernels of its own for blocks."""
    slopes = np.full((channels, 1, 1) if each else (1,), slope, np.float32)
    of, values = ",".join(map(str, slopes.shape)), ", ".join(map(str, slopes.ravel()))
    text = f"g (float[1,{channels},1,9] x) => (float[1,{channels},1,9] y) <float[{of}] s = {{{values}}}>"
    x = np.broadcast_to(SPECIAL, (1, channels, 1, 9)).copy()
    graph = graph_of(f"{HEAD20} {text} {{ y = PRelu (x, s) }}")
    assert ExpandPRelu().run(graph).changes == 1
    with np.errstate(invalid="ignore", over="ignore"):
        expected = np.where(x < 0, np.float32(slope) * x, x)
        np.testing.assert_array_equal(evaluate.outputs(graph, {"x": x})["y"], expected)
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(run(graph, x)[numbers], expected[numbers])


@pytest.mark.parametrize("channels", [16, 24, 32])
def test_numbers_are_equal_behind_convolutions(channels: int) -> None:
    """Where ONNX Runtime keeps blocks of channels, its kernels are others."""
    rng = np.random.default_rng(channels)
    weights = {"a": (channels, 3, 1, 1), "b": (4, channels, 1, 1), "s": (channels, 1, 1)}
    body = "p = Conv (x, a)  q = PRelu (p, s)  y = Conv (q, b)"
    given = ", ".join(f"float[{','.join(map(str, shape))}] {name}" for name, shape in weights.items())
    graph = graph_of(f"{HEAD20} g (float[1,3,17,19] x, {given}) => (float[1,4,17,19] y) {{ {body} }}")
    for name, shape in weights.items():
        at = next(t for t in graph.inputs if t.name == name)
        at.to_constant(rng.standard_normal(shape).astype(np.float32))
    graph.inputs = [t for t in graph.inputs if t.name == "x"]
    x = rng.standard_normal((1, 3, 17, 19)).astype(np.float32)
    before = run(graph, x)
    assert ExpandPRelu().run(graph).changes == 1
    np.testing.assert_array_equal(run(graph, x), before)


def test_a_slope_that_is_computed_is_left_alone() -> None:
    check_untouched(
        ExpandPRelu(), HEAD20 + "g (float[1,2] x, float[2] s) => (float[1,2] y) { y = PRelu (x, s) }", "not constant"
    )


def test_an_infinite_slope_is_left_alone() -> None:
    graph = graph_of(HEAD20 + "g (float[1,2] x) => (float[1,2] y) <float[2] s = {1, 2}> { y = PRelu (x, s) }")
    graph.nodes[0].inputs[1].values = np.array([1, np.inf], np.float32)
    result = ExpandPRelu().run(graph)
    assert result.changes == 0 and "not finite" in result.skips[0].reason


@pytest.mark.parametrize(
    ("x", "slope"),
    [
        ("1,12,3,5", "12,1,1"),
        ("1,16,5", "1"),
        ("1,C,3,5", "1"),
        ("1,16,3,5", "5"),
        ("2,16,3,5", "2,16,1,1"),
    ],
    ids=["no whole blocks", "no map", "an unknown count", "a slope for each column", "a slope for each image"],
)
def test_channels_that_fill_no_blocks_with_a_slope_each_take_plain_ops(x: str, slope: str) -> None:
    values = ", ".join(["-2"] * int(np.prod([int(side) for side in slope.split(",")])))
    text = f"g (float[{x}] x) => (float[{x}] y) <float[{slope}] s = {{{values}}}> {{ y = PRelu (x, s) }}"
    graph = check_pass(ExpandPRelu(), HEAD20 + text, None)
    assert [n.op for n in graph.nodes] == ["Min", "Mul", "Relu", "Add"]
