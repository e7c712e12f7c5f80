from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segc.passes.performance.hoist_conv_above_resize import HoistConvAboveResize
from segc.passes.support import evaluate
from tests.helpers.checks import HEAD20, apply, check_pass, check_untouched, graph_of

LINEAR = 'mode = "linear", coordinate_transformation_mode = "half_pixel"'


def text(body: str, weights: str = "4,8,1,1", given: str = "float[1,8,3,2] x", out: str = "float[1,4,6,4] y") -> str:
    """A graph of `given`, weights w and a bias b, a factor of two and sizes."""
    count = int(np.prod([int(side) for side in weights.split(",")]))
    values = ", ".join(str(at % 5 - 2) for at in range(count))
    return (
        HEAD20 + f"g ({given}) => ({out}) <float[{weights}] w = {{{values}}}, float[4] b = {{1, 2, 3, 4}},"
        f" float[4] two = {{1, 1, 2, 2}}, int64[4] sizes = {{1, 8, 6, 4}}, float[4] half = {{1, 1, 0.5, 0.5}},"
        f" float[4] wide = {{1, 2, 2, 2}}, float[2] sides = {{2, 2}}> {{ {body} }}"
    )


@pytest.mark.parametrize(
    "resize",
    [
        f"Resize <{LINEAR}> (x, , two)",
        f"Resize <{LINEAR}> (x, , , sizes)",
        f"Resize <{LINEAR}, axes = [2, 3]> (x, , sides)",
        'Resize <mode = "linear", coordinate_transformation_mode = "align_corners"> (x, , , sizes)',
        'Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"> (x, , two)',
    ],
)
def test_a_convolution_goes_to_the_small_side(resize: str) -> None:
    graph = check_pass(HoistConvAboveResize(), text(f"r = {resize}  y = Conv (r, w, b)"), None, atol=1e-5)
    assert [node.op for node in graph.nodes] == ["Conv", "Resize"]
    assert graph.nodes[0].outputs[0].shape == [1, 4, 3, 2]


def test_a_convolution_goes_above_two_resizes() -> None:
    body = f"r = Resize <{LINEAR}> (x, , two)  s = Resize <{LINEAR}> (r, , two)  y = Conv (s, w, b)"
    graph = check_pass(HoistConvAboveResize(), text(body, out="float[1,4,12,8] y"), None, changes=2, atol=1e-5)
    assert [node.op for node in graph.nodes] == ["Conv", "Resize", "Resize"]


def test_a_convolution_that_stays_behind_the_next_resize_is_named() -> None:
    body = f"r = Resize <{LINEAR}> (x, , half)  s = Resize <{LINEAR}> (r, , two)  y = Conv (s, w)"
    graph = graph_of(text(body, "8,8,1,1", given="float[1,8,6,4] x", out="float[1,8,6,4] y"))
    result = apply(HoistConvAboveResize(), graph)
    assert [node.op for node in graph.nodes] == ["Resize", "Conv", "Resize"]
    (skip,) = result.skips  # so that --check knows why a convolution still reads a Resize
    assert result.changes == 1 and skip.node == graph.nodes[1].name and "saves less" in skip.reason


def test_what_is_resized_is_taken_out_of_a_concat() -> None:
    body = f"r = Resize <{LINEAR}> (x, , two)  c = Concat <axis = 1> (p, r, q)  y = Conv (c, w, b)"
    given = "float[1,512,3,2] x, float[1,3,6,4] p, float[1,2,6,4] q"
    graph = check_pass(HoistConvAboveResize(), text(body, "4,517,1,1", given), None, atol=1e-3)
    assert sorted(node.op for node in graph.nodes) == ["Add", "Concat", "Conv", "Conv", "Resize"]
    assert [t.name for n in graph.nodes if n.op == "Concat" for t in n.inputs] == ["p", "q"]


def test_where_everything_is_resized_the_bias_is_added_once() -> None:
    body = (
        f"r = Resize <{LINEAR}> (x, , two)  s = Resize <{LINEAR}> (z, , , other)"
        "  c = Concat <axis = 1> (r, s)  y = Conv (c, w, b)"
    )
    given = "float[1,512,3,2] x, float[1,512,2,2] z"
    source = text(body, "4,1024,1,1", given).replace("<float", "<int64[4] other = {1, 512, 6, 4}, float", 1)
    graph = check_pass(HoistConvAboveResize(), source, None, atol=2e-3)
    assert [node.op for node in graph.nodes].count("Add") == 1
    assert sorted(len(node.inputs) for node in graph.nodes if node.op == "Conv") == [2, 3]


def test_sizes_that_are_computed_get_the_new_channels() -> None:
    body = f"""h = Shape <start = 2> (p)  n = Shape <end = 2> (x)  s = Concat <axis = 0> (n, h)
        r = Resize <{LINEAR}> (x, , , s)  y = Conv (r, w, b)"""
    given = "float[N,8,A,B] x, float[N,1,H,W] p"
    graph = graph_of(text(body, given=given, out="float[N,4,H,W] y"))
    x, p = np.random.default_rng(0).standard_normal((2, 8, 5, 3)).astype(np.float32), np.zeros((2, 1, 9, 7), np.float32)
    resize = next(node for node in graph.nodes if node.op == "Resize")
    resize.inputs[0].shape, resize.outputs[0].shape = ["N", 8, "((S - 1)//8) + 1", "B//8"], ["N", 8, "S//4", "B//4"]
    before = evaluate.outputs(graph, {"x": x, "p": p})["y"]
    assert apply(HoistConvAboveResize(), graph).changes == 1
    np.testing.assert_allclose(evaluate.outputs(graph, {"x": x, "p": p})["y"], before, atol=1e-5)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (f"r = Resize <{LINEAR}> (x, , two)  y = Conv <group = 2> (r, v)", "it has groups"),
        (f"r = Resize <{LINEAR}> (x, , two)  y = Conv <pads = [1, 1, 1, 1]> (r, w, b)", "strides or pads"),
        (f"r = Resize <{LINEAR}> (x, , two)  y = Conv <strides = [2, 2]> (r, w, b)", "strides or pads"),
        (f'r = Resize <{LINEAR}> (x, , two)  y = Conv <auto_pad = "SAME_UPPER"> (r, w, b)', "it pads"),
        (f"r = Resize <{LINEAR}> (x, , two)  w2 = Relu (w)  y = Conv (r, w2, b)", "weights are computed"),
        ('r = Resize <mode = "cubic"> (x, , two)  y = Conv (r, w, b)', "kernel other than linear or nearest"),
    ],
)
def test_other_convolutions_and_resizes_stay(body: str, why: str) -> None:
    source = text(body).replace("<float", "<float[4,4,1,1] v = {0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15}, float", 1)
    shapes = {"strides": "1,4,3,2", "pads": "1,4,8,6"}
    out = next((shape for word, shape in shapes.items() if word in body), "1,4,6,4")
    check_untouched(HoistConvAboveResize(), source.replace("float[1,4,6,4] y", f"float[{out}] y"), why)


def test_a_resize_that_reads_beyond_the_edge_stays() -> None:
    body = """r = Resize <mode = "linear", coordinate_transformation_mode = "tf_crop_and_resize"> (x, roi, two)
        y = Conv (r, w, b)"""
    source = text(body).replace("<float", "<float[8] roi = {0, 0, 0, 0, 1, 1, 1, 1}, float", 1)
    check_untouched(HoistConvAboveResize(), source, "beyond the edge")


def test_a_resize_of_channels_stays() -> None:
    body = f"r = Resize <{LINEAR}> (x, , wide)  y = Conv (r, w, b)"
    check_untouched(HoistConvAboveResize(), text(body, "4,16,1,1"), "scales of the Resize")


def test_a_resize_with_other_users_stays() -> None:
    body = f"z = Resize <{LINEAR}> (x, , two)  y = Conv (z, w, b)"
    check_untouched(HoistConvAboveResize(), text(body, out="float[1,4,6,4] y, float[1,8,6,4] z"), "also used elsewhere")
    body = f"r = Resize <{LINEAR}> (x, , two)  y = Conv (r, w, b)  z = Relu (r)"
    check_untouched(HoistConvAboveResize(), text(body, out="float[1,4,6,4] y, float[1,8,6,4] z"), "also used elsewhere")


def test_a_concat_with_other_users_stays() -> None:
    body = f"r = Resize <{LINEAR}> (x, , two)  z = Concat <axis = 1> (r, r)  y = Conv (z, w, b)"
    source = text(body, "4,16,1,1", out="float[1,4,6,4] y, float[1,16,6,4] z")
    check_untouched(HoistConvAboveResize(), source, "'z' is also used elsewhere")


def test_few_channels_are_not_resized_as_many() -> None:
    body = f"r = Resize <{LINEAR}> (x, , two)  y = Conv (r, w)"
    check_untouched(
        HoistConvAboveResize(), text(body, "512,8,1,1", out="float[1,512,6,4] y"), "saves less than it costs"
    )


def test_what_shrinks_is_convolved_when_it_is_small() -> None:
    body = f"r = Resize <{LINEAR}> (x, , half)  y = Conv (r, w, b)"
    source = text(body, "4,256,1,1", "float[1,256,4,4] x", "float[1,4,2,2] y")
    graph = check_pass(HoistConvAboveResize(), source, None, atol=1e-3)  # 252 channels less to interpolate
    assert [node.op for node in graph.nodes] == ["Conv", "Resize"]
    source = text(body.replace(", b)", ")"), "256,256,1,1", "float[1,256,4,4] x", "float[1,256,2,2] y")
    check_untouched(HoistConvAboveResize(), source, "saves less than it costs")


def test_an_unknown_growth_stays() -> None:
    body = f"""h = Shape <start = 2> (p)  n = Shape <end = 2> (x)  s = Concat <axis = 0> (n, h)
        r = Resize <{LINEAR}> (x, , , s)  y = Conv (r, w, b)"""
    given = "float[1,8,A,B] x, float[1,1,H,W] p"
    graph = graph_of(text(body, given=given, out="float[1,4,H,W] y"))
    resize = next(node for node in graph.nodes if node.op == "Resize")
    resize.outputs[0].shape = [1, 8, None, "W"]
    result = apply(HoistConvAboveResize(), graph)
    assert result.changes == 0 and "is unknown" in result.skips[0].reason


def test_a_wider_kernel_is_none_of_its_business() -> None:
    body = f"r = Resize <{LINEAR}> (x, , two)  y = Conv <pads = [1, 1, 1, 1]> (r, w, b)"
    result = apply(HoistConvAboveResize(), graph_of(text(body, "4,8,3,3")))
    assert result.changes == 0 and not result.skips


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"]),
    st.sampled_from(["linear", "nearest"]),
    st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(0, 9), st.integers(0, 9)),
    st.tuples(st.integers(0, 3), st.integers(1, 6), st.integers(8, 24)),
    st.integers(0, 2**31),
)
def test_any_enlargement_gives_the_same_numbers(
    coordinates: str, mode: str, size: tuple[int, int, int, int], channels: tuple[int, int, int], seed: int
) -> None:
    height, width, tall, wide = size[0], size[1], size[0] + size[2], size[1] + size[3]
    beside, out, resized = channels
    rng = np.random.default_rng(seed)
    joined = "c = Concat <axis = 1> (r, p)  y = Conv (c, w)" if beside else "y = Conv (r, w)"
    source = f"""{HEAD20} g (float[2,{resized},{height},{width}] x, float[2,{max(beside, 1)},{tall},{wide}] p,
        float[{out},{resized + beside},1,1] w) => (float[2,{out},{tall},{wide}] y)
        <int64[4] s = {{2, {resized}, {tall}, {wide}}}> {{
        r = Resize <mode = "{mode}", coordinate_transformation_mode = "{coordinates}"> (x, , , s)  {joined} }}"""
    graph = graph_of(source)
    graph.inputs[2].to_constant(rng.standard_normal((out, resized + beside, 1, 1)).astype(np.float32))
    graph.inputs = graph.inputs[:2]
    given = {t.name: rng.standard_normal(t.shape).astype(np.float32) for t in graph.inputs}
    before = evaluate.outputs(graph, given)["y"]
    apply(HoistConvAboveResize(), graph)
    np.testing.assert_allclose(evaluate.outputs(graph, given)["y"], before, atol=3e-5)


def test_what_has_no_known_rank_stays() -> None:
    body = f"r = Resize <{LINEAR}> (x, , two)  w2 = Reshape (w, n)  y = Conv (r, w2, b)"
    source = text(body).replace("float[1,8,3,2] x", "float[1,8,3,2] x, int64[k] n")
    check_untouched(HoistConvAboveResize(), source, None)  # who knows whether it is 1x1
    body = f"r = Resize <{LINEAR}> (x, , two)  y = Conv (r, w, b)"
    graph = graph_of(text(body))
    graph.inputs[0].shape = None
    result = apply(HoistConvAboveResize(), graph)
    assert result.changes == 0 and "is unknown" in result.skips[0].reason
