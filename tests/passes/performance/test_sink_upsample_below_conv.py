from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import segc.passes.performance.sink_upsample_below_conv as module
from segc.passes.performance.sink_upsample_below_conv import SinkUpsampleBelowConv
from segc.passes.support import evaluate
from tests.helpers.checks import HEAD20, apply, graph_of

LINEAR = 'mode = "linear", coordinate_transformation_mode = "half_pixel"'


@pytest.fixture
def any_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small graphs are rewritten too."""
    monkeypatch.setattr(module, "_LEAST", -np.inf)
    monkeypatch.setattr(module, "_WORTH", np.inf)


def graph(given: str, weights: Mapping[str, tuple[int, ...]], body: str, out: str) -> gs.Graph:
    """A graph whose inputs named in `weights` are constants of these shapes."""
    inputs = ", ".join(f"float[{','.join(map(str, shape))}] {name}" for name, shape in weights.items())
    made = graph_of(f"{HEAD20} g ({given}, {inputs}) => (float[{out}] y) {body}")
    rng = np.random.default_rng(0)
    for tensor in [t for t in made.inputs if t.name in weights]:
        tensor.to_constant(rng.standard_normal(weights[tensor.name]).astype(np.float32))
    made.inputs = [t for t in made.inputs if not isinstance(t, gs.Constant)]
    return made


def numbers(made: gs.Graph, seed: int = 0) -> np.ndarray:
    """What it computes from noise."""
    rng = np.random.default_rng(seed)
    given = {t.name: rng.standard_normal(t.shape).astype(np.float32) for t in made.inputs}
    return np.asarray(evaluate.outputs(made, given)["y"])


def check(made: gs.Graph) -> gs.Graph:
    """Rewritten once, with the same numbers but for rounding."""
    before = numbers(made)
    assert apply(SinkUpsampleBelowConv(), made).changes == 1
    assert apply(SinkUpsampleBelowConv(), made).changes == 0
    np.testing.assert_allclose(numbers(made), before, atol=1e-4 * np.abs(before).max())
    return made


def ops(made: gs.Graph) -> list[str]:
    return sorted(node.op for node in made.nodes)


PYRAMID = f"""<int64[4] s = {{1, 64, 16, 24}}, int64[4] t = {{1, 32, 16, 24}}> {{
    a = Resize <{LINEAR}> (p, , , s)  b = Resize <{LINEAR}> (q, , , t)
    c = Concat <axis = 1> (x, a, b)  y = Conv <pads = [1, 1, 1, 1]> (c, w, bias) }}"""
LEVELS = "float[1,8,16,24] x, float[1,64,2,3] p, float[1,32,4,6] q"


@pytest.mark.usefixtures("any_gain")
def test_levels_of_a_pyramid_share_the_last_product() -> None:
    made = check(graph(LEVELS, {"w": (96, 104, 3, 3), "bias": (96,)}, PYRAMID, "1,96,16,24"))
    convs = [node for node in made.nodes if node.op == "Conv"]
    assert len(convs) == 7 and not any(node.op == "Resize" for node in made.nodes)
    assert sorted(tuple(node.inputs[0].shape[2:]) for node in convs) == [(2, 3)] * 3 + [(4, 6)] * 3 + [(16, 24)]
    assert ops(made).count("MatMul") == 7


def test_without_other_maps_the_bias_is_added_alone() -> None:
    body = f"""<int64[4] s = {{2, 128, 16, 24}}> {{ a = Resize <{LINEAR}> (p, , , s)
        y = Conv <pads = [1, 1, 1, 1]> (a, w, bias) }}"""
    made = check(graph("float[2,128,2,3] p", {"w": (128, 128, 3, 3), "bias": (128,)}, body, "2,128,16,24"))
    assert ops(made).count("Conv") == 3 and ops(made)[-1] == "Reshape"


def test_a_resize_with_other_users_stays_for_them() -> None:
    body = f"""<int64[4] s = {{1, 128, 16, 24}}> {{ a = Resize <{LINEAR}> (p, , , s)
        v = Conv <pads = [1, 1, 1, 1]> (a, w)  u = Relu (a)  y = Add (u, v) }}"""
    made = check(graph("float[1,128,2,3] p", {"w": (128, 128, 3, 3)}, body, "1,128,16,24"))
    assert ops(made).count("Resize") == 1


def untouched(made: gs.Graph, why: str) -> None:
    result = apply(SinkUpsampleBelowConv(), made)
    assert result.changes == 0 and why in result.skips[0].reason


ONE = f"<int64[4] s = {{1, 128, 16, 24}}> {{ a = Resize <{LINEAR}> (p, , , s)  y = Conv <%s> (a, w) }}"


@pytest.mark.parametrize(
    ("weights", "attributes", "out", "why"),
    [
        ((128, 64, 3, 3), "pads = [1, 1, 1, 1], group = 2", "1,128,16,24", "it has groups"),
        ((128, 128, 3, 3), 'auto_pad = "SAME_UPPER"', "1,128,16,24", "auto_pad"),
        ((2, 128, 3, 3), "pads = [1, 1, 1, 1]", "1,2,16,24", "saves less than it costs"),
    ],
)
def test_other_convolutions_stay(weights: tuple[int, ...], attributes: str, out: str, why: str) -> None:
    untouched(graph("float[1,128,2,3] p", {"w": weights}, ONE % attributes, out), why)


def test_half_precision_stays() -> None:
    made = graph("float[1,128,2,3] p", {"w": (128, 128, 3, 3)}, ONE % "pads = [1, 1, 1, 1]", "1,128,16,24")
    for tensor in made.tensors().values():
        if tensor.dtype == np.float32 and not isinstance(tensor, gs.Constant):
            tensor.dtype = np.dtype(np.float16)
    untouched(made, "is float16")


def test_a_little_enlargement_is_not_worth_it() -> None:
    made = graph("float[1,128,15,23] p", {"w": (128, 128, 3, 3)}, ONE % "pads = [1, 1, 1, 1]", "1,128,16,24")
    untouched(made, "saves less than it costs")


def test_a_form_that_costs_nearly_as_much_is_not_worth_its_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """It saves more than the least, but less than the share: both are asked for."""
    body = (ONE % "pads = [1, 1, 1, 1]").replace("16, 24", "40, 60")
    made = graph("float[1,128,20,30] p", {"w": (128, 128, 3, 3)}, body, "1,128,40,60")
    untouched(made, "saves less than it costs")
    monkeypatch.setattr(module, "_WORTH", 1.0)
    assert apply(SinkUpsampleBelowConv(), made).changes == 1


def test_sequences_and_maps_of_unknown_rank_stay() -> None:
    body = """<int64[3] s = {1, 8, 64}> { a = Resize <mode = "linear"> (p, , , s)  y = Conv <pads = [1, 1]> (a, w) }"""
    untouched(graph("float[1,8,4] p", {"w": (8, 8, 3)}, body, "1,8,64"), "it is not two-dimensional")
    made = graph("float[1,128,2,3] p", {"w": (128, 128, 3, 3)}, ONE % "pads = [1, 1, 1, 1]", "1,128,16,24")
    made.inputs[0].shape = None
    untouched(made, "unknown")


def test_weights_that_are_computed_stay() -> None:
    body = f"""<int64[4] s = {{1, 128, 16, 24}}> {{ a = Resize <{LINEAR}> (p, , , s)  v = Relu (w)
        y = Conv <pads = [1, 1, 1, 1]> (a, v) }}"""
    untouched(graph("float[1,128,2,3] p, float[128,128,3,3] w", {"none": (1,)}, body, "1,128,16,24"), "are computed")


def dynamic(made: gs.Graph, **sizes: list[Any]) -> gs.Graph:
    """The graph with sizes as exporters leave them: expressions of symbols."""
    tensors = made.tensors()
    for name, size in sizes.items():
        tensors[name].shape = size
    return made


SIDES = """h = Shape <start = 2> (x)  n = Shape <end = 2> (p)  s = Concat <axis = 0> (n, h)"""


@pytest.mark.parametrize("coordinates", ["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"])
@pytest.mark.parametrize(
    "attributes", ["pads = [1, 1, 1, 1]", "pads = [2, 0, 1, 3], strides = [2, 1]", "dilations = [1, 2]"]
)
def test_sizes_may_be_known_at_run_time_only(coordinates: str, attributes: str) -> None:
    body = f"""{{ {SIDES}  a = Resize <mode = "linear", coordinate_transformation_mode = "{coordinates}"> (p, , , s)
        c = Concat <axis = 1> (x, a)  y = Conv <{attributes}> (c, w, b) }}"""
    given = "float[N,4,H,W] x, float[N,128,U,V] p"
    made = graph(given, {"w": (128, 132, 3, 3), "b": (128,)}, body, "N,128,Y,X")
    large = ["N", 128, "(s0 - 1)//8 + 1", "(s1 - 1)//8 + 1"]
    dynamic(made, x=["N", 4, *large[2:]], p=["N", 128, "(s0 - 1)//64 + 1", "(s1 - 1)//64 + 1"], a=large, y=large)
    rng = np.random.default_rng(1)
    feeds = [
        {
            "x": rng.standard_normal((n, 4, tall, wide)).astype(np.float32),
            "p": rng.standard_normal((n, 128, height, width)).astype(np.float32),
        }
        for n, tall, wide, height, width in ((1, 8, 9, 2, 3), (2, 7, 5, 1, 1), (1, 12, 6, 3, 6))
    ]
    before = [evaluate.outputs(made, feed)["y"] for feed in feeds]
    assert apply(SinkUpsampleBelowConv(), made).changes == 1
    assert not any(node.op == "Resize" for node in made.nodes)
    for feed, want in zip(feeds, before, strict=True):
        found = evaluate.outputs(made, feed)["y"]
        assert found.shape == want.shape
        np.testing.assert_allclose(found, want, atol=1e-4 * np.abs(want).max())


def test_sizes_of_which_nothing_is_known_stay() -> None:
    body = f"""{{ {SIDES}  a = Resize <{LINEAR}> (p, , , s)  y = Conv <pads = [1, 1, 1, 1]> (a, w) }}"""
    made = graph("float[1,1,H,W] x, float[1,128,U,V] p", {"w": (128, 128, 3, 3)}, body, "1,128,Y,X")
    untouched(dynamic(made, y=[1, 128, None, None], a=[1, 128, None, None]), "are unknown")


def test_nearest_stays_where_sizes_are_not_static() -> None:
    body = f"""{{ {SIDES}  a = Resize <mode = "nearest"> (p, , , s)  y = Conv <pads = [1, 1, 1, 1]> (a, w) }}"""
    made = graph("float[1,1,H,W] x, float[1,128,U,V] p", {"w": (128, 128, 3, 3)}, body, "1,128,H,W")
    untouched(dynamic(made, a=[1, 128, "H", "W"], y=[1, 128, "H", "W"]), "its mode is nearest")


def test_a_resize_of_unknown_coordinates_stays() -> None:
    body = """<int64[4] s = {1, 128, 16, 24}, float[8] roi = {0, 0, 0, 0, 1, 1, 1, 1}> {
        a = Resize <mode = "linear", coordinate_transformation_mode = "tf_crop_and_resize"> (p, roi, , s)
        y = Conv <pads = [1, 1, 1, 1]> (a, w) }"""
    untouched(graph("float[1,128,2,3] p", {"w": (128, 128, 3, 3)}, body, "1,128,16,24"), "tf_crop_and_resize")


KERNELS = st.fixed_dictionaries(
    {
        "taps": st.tuples(st.integers(1, 4), st.integers(1, 4)),
        "strides": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "dilations": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "pads": st.tuples(*[st.integers(0, 3)] * 4),
    }
)


@pytest.mark.usefixtures("any_gain")
@settings(max_examples=80, deadline=None)
@given(
    KERNELS,
    st.sampled_from(["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"]),
    st.sampled_from(["linear", "cubic", "nearest"]),
    st.tuples(*[st.integers(1, 4)] * 2, *[st.integers(0, 9)] * 2),
    st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(0, 2), st.integers(1, 3)),
)
def test_any_kernel_sees_the_same(
    kernel: dict[str, Any], coordinates: str, mode: str, size: tuple[int, ...], channels: tuple[int, ...]
) -> None:
    batch, small, beside, out = channels
    height, width, tall, wide = size[0], size[1], size[0] + size[2], size[1] + size[3]
    taps, strides, dilations, pads = (kernel[name] for name in ("taps", "strides", "dilations", "pads"))
    sides = [
        (large + pads[at] + pads[at + 2] - dilations[at] * (taps[at] - 1) - 1) // strides[at] + 1
        for at, large in enumerate((tall, wide))
    ]
    if min(sides) < 1:
        return
    joined = "c = Concat <axis = 1> (x, a)" if beside else "c = Relu (x)"
    attributes = f"pads = {list(pads)}, strides = {list(strides)}, dilations = {list(dilations)}"
    body = f"""<int64[4] s = {{{batch}, {small}, {tall}, {wide}}}> {{
        a = Resize <mode = "{mode}", coordinate_transformation_mode = "{coordinates}"> (p, , , s)  {joined}
        y = Conv <{attributes}> ({"c" if beside else "a"}, w, b) }}"""
    given = f"float[{batch},{max(beside, 1)},{tall},{wide}] x, float[{batch},{small},{height},{width}] p"
    shapes = {"w": (out, small + beside, *taps), "b": (out,)}
    made = graph(given, shapes, body, f"{batch},{out},{sides[0]},{sides[1]}")
    before = numbers(made)
    assert apply(SinkUpsampleBelowConv(), made).changes == 1
    np.testing.assert_allclose(numbers(made), before, atol=1e-5 * max(1, np.abs(before).max()))
