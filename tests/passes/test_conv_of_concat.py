from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from checks import HEAD, apply, check_untouched, graph_of

from segc.passes import ConvOfConcat, evaluate

GIVEN = "float[1,32,6,9] a, float[1,3,6,9] b, float[1,32,6,9] c"
BN = "BatchNormalization<epsilon = 0.01>({}, gamma, beta, mean, var)"
JOIN = "j = Concat<axis = 1>(a, b)"
CONV = "Conv<strides = [2, 2], pads = [1, 1, 1, 1]>({}, w, bias)"


def text(body: str, channels: int = 35, given: str = GIVEN, slope: str = "35,1,1") -> str:
    sizes = {"gamma": channels, "beta": channels, "mean": channels, "var": channels, "bias": 5}
    constants = ", ".join(f"float[{size}] {name}" for name, size in sizes.items())
    given = f"{given}, {constants}, float[5,{channels},3,3] w, float[{slope}] slope"
    return f"{HEAD} g ({given}) => (float[N,5,P,Q] y) {{ {body} }}"


def graph(body: str, channels: int = 35, given: str = GIVEN, slope: str = "35,1,1") -> gs.Graph:
    """All but a, b and c are constants."""
    made = graph_of(text(body, channels, given, slope))
    rng = np.random.default_rng(0)
    for tensor in [t for t in made.inputs if len(t.name) > 1 or t.name == "w"]:
        tensor.to_constant((0.5 + rng.random(tensor.shape)).astype(np.float32))
    made.inputs = [t for t in made.inputs if not isinstance(t, gs.Constant)]
    return made


def numbers(made: gs.Graph) -> np.ndarray:
    rng = np.random.default_rng(1)
    sizes = [[side if isinstance(side, int) else 7 for side in t.shape] for t in made.inputs]
    given = {t.name: rng.standard_normal(size).astype(np.float32) for t, size in zip(made.inputs, sizes, strict=True)}
    return np.asarray(evaluate.outputs(made, given)["y"])


@pytest.mark.parametrize(
    ("between", "counts"),
    [
        (f"y = {CONV.format('j')}", {}),
        (f"n = {BN.format('j')}  y = {CONV.format('n')}", {"BatchNormalization": 2}),
        (
            f"n = {BN.format('j')}  p = PRelu(n, slope)  r = Relu(p)  y = {CONV.format('r')}",
            {"BatchNormalization": 2, "PRelu": 2, "Relu": 2},
        ),
    ],
)
def test_a_block_and_the_odd_rest_are_convolved_apart(between: str, counts: dict[str, int]) -> None:
    made = graph(f"{JOIN}  {between}")
    before = numbers(made)
    assert apply(ConvOfConcat(), made).changes == 1
    np.testing.assert_allclose(numbers(made), before, atol=1e-5 * np.abs(before).max())
    found = [node.op for node in made.nodes]
    assert {op: found.count(op) for op in set(found)} == {**counts, "Conv": 2, "Add": 1}
    assert apply(ConvOfConcat(), made).changes == 0


@pytest.mark.parametrize("slope", ["1", "1,1,1", "1,35,1,1"])
def test_slopes_of_any_shape(slope: str) -> None:
    made = graph(f"{JOIN}  p = PRelu(j, slope)  y = {CONV.format('p')}", slope=slope)
    before = numbers(made)
    assert apply(ConvOfConcat(), made).changes == 1
    np.testing.assert_allclose(numbers(made), before, atol=1e-5 * np.abs(before).max())


def test_the_odd_part_may_lie_between_and_sizes_be_unknown() -> None:
    """CGNet joins 64 channels, 64 more and the image's three."""
    given = "float[N,32,H,W] a, float[N,3,H,W] b, float[N,32,H,W] c"
    made = graph(f"j = Concat<axis = -3>(a, b, c)  n = {BN.format('j')}  y = {CONV.format('n')}", 67, given)
    before = numbers(made)
    assert apply(ConvOfConcat(), made).changes == 1
    np.testing.assert_allclose(numbers(made), before, atol=1e-5 * np.abs(before).max())
    assert [node.op for node in made.nodes].count("Concat") == 1


@pytest.mark.parametrize(
    ("body", "channels", "given", "reason"),
    [
        (f"j = Concat<axis = 1>(a, c)  y = {CONV.format('j')}", 64, GIVEN, None),
        (f"j = Concat<axis = 1>(b, b)  y = {CONV.format('j')}", 6, GIVEN, None),
        (f"j = Concat<axis = 1>(a)  y = {CONV.format('j')}", 32, GIVEN, None),
        (f"{JOIN}  s = Sigmoid(j)  y = {CONV.format('s')}", 35, GIVEN, None),
        (f"{JOIN}  y = {CONV.format('j')}", 35, "float[1,32,6,9] a, float[1,U,6,9] b, float[1,32,6,9] c", None),
        (f"{JOIN}  y = {CONV.format('j')}", 52, GIVEN.replace("[1,3,", "[1,20,"), "20 channels"),
        (f"{JOIN}  z = {CONV.format('j')}  v = {CONV.format('j')}  y = Add(z, v)", 35, GIVEN, "'j' is also used"),
        (f"{JOIN}  p = PRelu(j, rows)  y = {CONV.format('p')}", 35, f"{GIVEN}, float[9] rows", "lie along rows"),
    ],
)
def test_stays(body: str, channels: int, given: str, reason: str | None) -> None:
    made = graph(body, channels, given)
    result = apply(ConvOfConcat(), made)
    assert result.changes == 0
    assert [skip.reason for skip in result.skips] == [] if reason is None else reason in result.skips[0].reason


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (f"{JOIN}  y = {CONV.format('j')}", "its weights are computed"),
        (f"{JOIN}  n = {BN.format('j')}  y = Conv(n, k)", "constants of"),
    ],
)
def test_numbers_that_are_computed_stay_together(body: str, reason: str) -> None:
    kernel = f"float[5,35,1,1] k = {{{', '.join(['1'] * 175)}}}"
    made = text(body).replace("float[N,5,P,Q] y) {", f"float[N,5,P,Q] y) <{kernel}> {{")
    check_untouched(ConvOfConcat(), made, reason)
