from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import segc.passes.performance.winograd_conv as module
from segc.graph import ir
from segc.passes.performance.winograd_conv import WinogradConv
from segc.passes.support import evaluate
from tests.helpers.checks import HEAD20, apply, graph_of

ATTRS = "pads = [1, 1, 1, 1]"
DILATED = "pads = [{0}, {0}, {0}, {0}], dilations = [{0}, {0}]"
STEPS = [
    WinogradConv(channels=0, dilated_channels=0),
    WinogradConv(channels=0, dilated_channels=0, by_products=True),
]


@pytest.fixture
def any_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps of few pixels are rewritten too."""
    monkeypatch.setattr(module, "_MIN_PRODUCTS", 0)
    monkeypatch.setattr(module, "_MIN_TILES", 0)
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


def numbers(made: gs.Graph, shape: tuple[int, ...] | None = None, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape or made.inputs[0].shape).astype(np.float32)
    return np.asarray(evaluate.outputs(made, {"x": x})["y"])


def check(made: gs.Graph, step: WinogradConv, *shapes: tuple[int, ...] | None) -> gs.Graph:
    """The same numbers of the same shape at each of the shapes."""
    before = [numbers(made, shape) for shape in shapes or (None,)]
    assert apply(step, made).changes == 1
    ir.infer_shapes(made)
    for shape, want in zip(shapes or (None,), before, strict=True):
        np.testing.assert_allclose(numbers(made, shape), want, atol=4e-6 * np.abs(want).max())
    return made


def test_the_matrices_are_exact() -> None:
    """Summing the products of the transformed numbers gives the sum over the taps, at any points."""
    for points in (module.POINTS, (0.0, 1.0, -1.0, 2.0, -2.0)):
        a_t, g, b_t = module.matrices(points)
        sums = np.einsum("pk,kt,kx->ptx", a_t, g, b_t)
        want = [[[float(x == p + t) for x in range(6)] for t in range(3)] for p in range(4)]
        np.testing.assert_allclose(sums, want, atol=1e-13)


@pytest.mark.usefixtures("any_gain")
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "shape", [(1, 3, 8, 12), (1, 3, 7, 10), (2, 3, 8, 9), (1, 3, 5, 5), (3, 3, 2, 1), (1, 3, 3, 2)]
)
@pytest.mark.parametrize("attrs", [ATTRS, "pads = [0, 2, 1, 3]", "pads = [2, 2, 2, 2], strides = [1, 1]"])
def test_numbers_at_any_size(step: WinogradConv, bias: bool, shape: tuple[int, ...], attrs: str) -> None:
    check(graph(shape, attrs=attrs, bias=bias), step)


@pytest.mark.usefixtures("any_gain")
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("dilation", [2, 3, 4])
@pytest.mark.parametrize("shape", [(1, 3, 16, 32), (1, 3, 13, 21), (2, 3, 24, 7), (1, 3, 2, 3)])
def test_numbers_of_a_dilated_convolution(step: WinogradConv, dilation: int, shape: tuple[int, ...]) -> None:
    check(graph(shape, attrs=DILATED.format(dilation)), step)


@pytest.mark.usefixtures("any_gain")
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("attrs", [ATTRS, "pads = [0, 2, 1, 3]", DILATED.format(2), DILATED.format(4)])
@pytest.mark.parametrize("x", [("N", 3, "H", "W"), (1, 3, "H", "W"), (2, 3, "H", 12), (1, 3, 9, "W")])
def test_sizes_known_at_run_time(step: WinogradConv, attrs: str, x: tuple[object, ...]) -> None:
    sizes = [{"N": 1, "H": 8, "W": 12}, {"N": 2, "H": 9, "W": 7}, {"N": 1, "H": 5, "W": 16}]
    shapes = [tuple(size[s] if isinstance(s, str) else int(str(s)) for s in x) for size in sizes]
    check(graph(x, attrs=attrs), step, *shapes)


@pytest.mark.usefixtures("any_gain")
@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=4, max_size=4), st.integers(3, 12), st.integers(3, 12), st.booleans())
def test_any_padding_of_any_size(pads: list[int], height: int, width: int, which: bool) -> None:
    check(graph((1, 2, height, width), (4, 2, 3, 3), f"pads = {pads}"), STEPS[which])


@pytest.mark.usefixtures("any_gain")
def test_the_input_tells_the_size_of_a_result_of_unknown_size() -> None:
    made = graph((1, 3, "H", "W"))
    made.nodes[0].outputs[0].shape = [1, 5, None, None]
    check(made, STEPS[0], (1, 3, 9, 7))
    unknown = graph((1, 3, "H", "W"))
    unknown.nodes[0].outputs[0].shape = unknown.inputs[0].shape = [1, 3, None, None]
    result = apply(WinogradConv(channels=0), unknown)
    assert result.changes == 0 and "its size is unknown" in result.skips[0].reason


def test_tiles_that_share_a_caches_sets_get_one_more_column() -> None:
    """64x128 pixels are 16x32 tiles, 512 in all: OpenVINO's form takes 16x33, the other does not."""
    for step, tiles in ((WinogradConv(channels=1), 32), (WinogradConv(channels=1, by_products=True), 33)):
        made = check(graph((1, 40, 64, 128), (40, 40, 3, 3)), step)
        (seen,) = [n.outputs[0] for n in made.nodes if n.op == "Conv"]
        assert seen.shape[2:] == [16, tiles]


def error_of(made: gs.Graph, x: np.ndarray, exact: np.ndarray) -> float:
    return float(np.abs(evaluate.outputs(made, {"x": x})["y"][0] - exact).max() / np.abs(exact).max())


def wide() -> tuple[gs.Graph, np.ndarray, np.ndarray]:
    """A convolution of 512 channels, an input as after a ReLU, and the result in float64."""
    made = graph((1, 512, 24, 32), (64, 512, 3, 3))
    weights, bias = (t.values.astype(np.float64) for t in made.nodes[0].inputs[1:])
    x = np.maximum(np.random.default_rng(0).standard_normal((1, 512, 24, 32)), 0).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(x[0].astype(np.float64), ((0, 0), (1, 1), (1, 1))), (3, 3), (1, 2)
    )
    return made, x, np.einsum("chwij,ocij->ohw", windows, weights, optimize=True) + bias[:, None, None]


def test_a_wide_convolution_loses_a_digit_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against float64. The points that textbooks use lose nearly two."""
    made, x, exact = wide()
    assert error_of(made, x, exact) < 1e-6
    assert apply(WinogradConv(channels=0), made).changes == 1
    ours = error_of(made, x, exact)
    assert ours < 6e-6

    usual, x, exact = wide()
    matrices = module.matrices
    monkeypatch.setattr(module, "matrices", lambda: matrices((0.0, 1.0, -1.0, 2.0, -2.0)))
    assert apply(WinogradConv(channels=0), usual).changes == 1
    assert error_of(usual, x, exact) > 2 * ours


def test_files_keep_their_size() -> None:
    """What the weights become is computed from them."""
    made = graph((1, 512, 24, 32), (512, 512, 3, 3))
    assert apply(WinogradConv(), made).changes == 1
    constants = {t.name: t for node in made.nodes for t in node.inputs if isinstance(t, gs.Constant)}
    assert sum(t.values.nbytes for t in constants.values()) < 1.002 * 512 * 512 * 9 * 4


@pytest.mark.parametrize(
    ("x", "w", "attrs", "reason"),
    [
        ((1, 256, 64, 64), (256, 256, 3, 3), ATTRS, "too few"),
        ((1, 256, 64, 64), (256, 256, 3, 3), DILATED.format(2), "too few"),
        ((1, 512, 4, 4), (512, 512, 3, 3), ATTRS, "too few pixels"),
        ((1, 512, 16, 28), (512, 512, 3, 3), ATTRS, "too few pixels"),
        ((1, 512, 21, 21), (512, 512, 3, 3), ATTRS, "too few pixels"),
        ((1, 512, 64, 64), (512, 512, 3, 3), DILATED.format(12), "too few pixels"),
        ((1, 512, 64, 64), (512, 512, 3, 3), "pads = [1, 1, 1, 1], dilations = [2, 2]", "changes the size"),
        ((1, 512, 64, 64), (512, 512, 3, 3), 'auto_pad = "SAME_UPPER"', "auto_pad"),
        ((1, 512, 64, 64), (512, 512, 3, 3), f"{ATTRS}, strides = [2, 2]", None),
        ((1, 512, 64, 64), (512, 512, 3, 3), f"{ATTRS}, dilations = [1, 2]", None),
        ((1, 512, 64, 64), (512, 1, 3, 3), f"{ATTRS}, group = 512", None),
        ((1, 512, 64, 64), (512, 512, 1, 3), "pads = [0, 1, 0, 1]", None),
        ((1, 512, 64), (512, 512, 3), "pads = [1, 1], dilations = [1]", None),
    ],
)
def test_stays(x: tuple[object, ...], w: tuple[int, ...], attrs: str, reason: str | None) -> None:
    result = apply(WinogradConv(), graph(x, w, attrs))
    assert result.changes == 0
    assert [skip.reason for skip in result.skips] == [] if reason is None else reason in result.skips[0].reason


def test_weights_that_are_computed_stay() -> None:
    made = graph_of(
        f"{HEAD20} g (float[1,512,64,64] x, float[512,512,3,3] w) => (float[1,512,64,64] y)"
        f"{{ y = Conv <{ATTRS}> (x, w) }}"
    )
    result = apply(WinogradConv(), made)
    assert result.changes == 0 and "computed" in result.skips[0].reason


def test_half_precision_and_old_opsets_stay() -> None:
    made = graph((1, 512, 64, 64), (512, 512, 3, 3))
    made.opset = 12
    result = apply(WinogradConv(), made)
    assert result.changes == 0 and "the opset is below 13" in result.skips[0].reason
    made = graph((1, 512, 64, 64), (512, 512, 3, 3))
    made.nodes[0].inputs[1].values = made.nodes[0].inputs[1].values.astype(np.float16)
    result = apply(WinogradConv(), made)
    assert result.changes == 0 and "not float32" in result.skips[0].reason


@pytest.mark.usefixtures("any_gain")
@pytest.mark.parametrize("unknown", [2, 3])
def test_one_side_of_unknown_size_is_enough_to_stay(unknown: int) -> None:
    made = graph((1, 3, "H", "W"))
    made.nodes[0].outputs[0].shape = [1, 5, "H", "W"]
    made.nodes[0].outputs[0].shape[unknown] = made.inputs[0].shape[unknown] = None
    result = apply(WinogradConv(channels=0), made)
    assert result.changes == 0 and "its size is unknown" in result.skips[0].reason


@pytest.mark.usefixtures("any_gain")
@pytest.mark.parametrize("attrs", [ATTRS, DILATED.format(3)])
@pytest.mark.parametrize("step", STEPS)
def test_what_is_known_is_not_computed_again(step: WinogradConv, attrs: str) -> None:
    made = graph((1, 3, 13, 21), attrs=attrs)
    assert apply(step, made).changes == 1
    assert "Shape" not in {node.op for node in made.nodes}  # all sizes are constants
    (add,) = [node for node in made.nodes if node.op == "Add" and node.outputs[0].name == "y"]
    assert isinstance(add.inputs[1], gs.Constant)  # and so is the bias per channel
