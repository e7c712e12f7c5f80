from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from checks import HEAD20, apply, graph_of
from hypothesis import given, settings
from hypothesis import strategies as st

import segc.passes.winograd as module
from segc.passes import Winograd, evaluate

ATTRS = "pads = [1, 1, 1, 1]"


@pytest.fixture
def any_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small convolutions are rewritten too."""
    monkeypatch.setattr(module, "_CHANNELS", 0)
    monkeypatch.setattr(module, "_PRODUCTS", 0)
    monkeypatch.setattr(module, "_WASTE", np.inf)


def graph(
    x: tuple[object, ...] = (1, 3, 8, 10), w: tuple[int, ...] = (5, 3, 3, 3), attrs: str = ATTRS, bias: bool = True
) -> gs.Graph:
    """One convolution with random weights."""
    extra, read = (f", float[{w[0]}] bias", ", bias") if bias else ("", "")
    sizes, weights = (",".join(map(str, shape)) for shape in (x, w))
    made = graph_of(
        f"{HEAD20} g (float[{sizes}] x, float[{weights}] w{extra}) => (float[N,{w[0]},P,Q] y)"
        f"{{ y = Conv <{attrs}> (x, w{read}) }}"
    )
    rng = np.random.default_rng(0)
    for tensor in made.inputs[1:]:
        tensor.to_constant(rng.standard_normal(tensor.shape).astype(np.float32))
    made.inputs = made.inputs[:1]
    return made


def numbers(made: gs.Graph, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(made.inputs[0].shape).astype(np.float32)
    return np.asarray(evaluate.outputs(made, {"x": x})["y"])


def check(made: gs.Graph) -> gs.Graph:
    before = numbers(made)
    assert apply(Winograd(), made).changes == 1
    assert apply(Winograd(), made).changes == 0
    np.testing.assert_allclose(numbers(made), before, atol=3e-6 * np.abs(before).max())
    return made


@pytest.mark.usefixtures("any_gain")
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [(8, 10), (7, 10), (8, 9), (5, 5), (1, 1), (3, 2)])
@pytest.mark.parametrize("attrs", [ATTRS, "pads = [0, 2, 1, 3]", "pads = [2, 2, 2, 2], strides = [1, 1]"])
def test_numbers_at_even_and_odd_sizes(bias: bool, size: tuple[int, int], attrs: str) -> None:
    if size[0] == 1 and "[0, 2, 1, 3]" in attrs:
        size = (2, 1)
    check(graph((1, 3, *size), attrs=attrs, bias=bias))


@pytest.mark.usefixtures("any_gain")
def test_without_padding() -> None:
    check(graph((1, 3, 6, 9), attrs="pads = [0, 0, 0, 0]"))


@pytest.mark.usefixtures("any_gain")
@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=4, max_size=4), st.integers(3, 12), st.integers(3, 12))
def test_any_padding_of_any_size(pads: list[int], height: int, width: int) -> None:
    check(graph((1, 2, height, width), (4, 2, 3, 3), f"pads = {pads}"))


def test_a_wide_convolution_rounds_as_the_direct_one_does() -> None:
    """Against float64: no more than half as much again."""
    made = graph((1, 512, 16, 24), (512, 512, 3, 3))
    weights, bias = (t.values.astype(np.float64) for t in made.nodes[0].inputs[1:])
    x = np.random.default_rng(0).standard_normal((1, 512, 16, 24)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(x[0].astype(np.float64), ((0, 0), (1, 1), (1, 1))), (3, 3), (1, 2)
    )
    exact = np.einsum("chwij,ocij->ohw", windows, weights, optimize=True) + bias[:, None, None]
    direct = np.abs(evaluate.outputs(made, {"x": x})["y"][0] - exact).max()
    assert apply(Winograd(), made).changes == 1
    assert np.abs(evaluate.outputs(made, {"x": x})["y"][0] - exact).max() <= 1.5 * direct


def test_files_keep_their_size() -> None:
    """What the weights become is computed from them."""
    made = graph((1, 512, 16, 24), (512, 512, 3, 3))
    apply(Winograd(), made)
    constants = {t.name: t for node in made.nodes for t in node.inputs if isinstance(t, gs.Constant)}
    assert sum(t.values.nbytes for t in constants.values()) < 1.001 * 512 * 512 * 9 * 4


@pytest.mark.parametrize(
    ("x", "w", "attrs", "reason"),
    [
        ((1, 256, 64, 64), (256, 256, 3, 3), ATTRS, "too few"),
        ((1, 512, 4, 4), (512, 512, 3, 3), ATTRS, "too few pixels"),
        ((1, 512, 9, 9), (512, 512, 3, 3), ATTRS, "too few pixels"),
        ((1, 512, "H", 64), (512, 512, 3, 3), ATTRS, "at run time only"),
        ((2, 512, 64, 64), (512, 512, 3, 3), ATTRS, "or it is a batch"),
        ((1, 512, 64, 64), (512, 512, 3, 3), 'auto_pad = "SAME_UPPER"', "pads by itself"),
        ((1, 512, 64, 64), (512, 512, 3, 3), f"{ATTRS}, strides = [2, 2]", None),
        ((1, 512, 64, 64), (512, 512, 3, 3), f"{ATTRS}, dilations = [1, 2]", None),
        ((1, 512, 64, 64), (512, 1, 3, 3), f"{ATTRS}, group = 512", None),
        ((1, 512, 64, 64), (512, 512, 1, 3), "pads = [0, 1, 0, 1]", None),
    ],
)
def test_stays(x: tuple[object, ...], w: tuple[int, ...], attrs: str, reason: str | None) -> None:
    result = apply(Winograd(), graph(x, w, attrs))
    assert result.changes == 0
    assert [skip.reason for skip in result.skips] == [] if reason is None else reason in result.skips[0].reason


def test_weights_that_are_computed_stay() -> None:
    made = graph_of(
        f"{HEAD20} g (float[1,512,64,64] x, float[512,512,3,3] w) => (float[1,512,64,64] y)"
        f"{{ y = Conv <{ATTRS}> (x, w) }}"
    )
    result = apply(Winograd(), made)
    assert result.changes == 0 and "computed" in result.skips[0].reason
