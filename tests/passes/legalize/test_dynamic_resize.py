from __future__ import annotations

import numpy as np
import pytest

from segc.graph import ir
from segc.passes.legalize.dynamic_resize import LegalizeDynamicResize
from segc.passes.support import evaluate
from tests.helpers.checks import HEAD, HEAD20, check_pass, check_untouched, graph_of

PPLNN = frozenset({("linear", "pytorch_half_pixel"), ("cubic", "pytorch_half_pixel"), ("nearest", "asymmetric")})
SIGNATURE = "(float[N,2,H,W] x, float[N,2,A,B] like) => (float[N,2,A,B] y)"


def resize(coordinates: str, mode: str = "linear", head: str = HEAD) -> str:
    """To the size of another map."""
    return (
        head
        + f""" g {SIGNATURE} <int64[1] two = {{2}}, int64[1] four = {{4}}, int64[1] zero = {{0}}>
        {{ s = Shape (x)  outer = Slice (s, zero, two)  t = Shape (like)  inner = Slice (t, two, four)
           sizes = Concat <axis = 0> (outer, inner)
           y = Resize <mode = "{mode}", coordinate_transformation_mode = "{coordinates}"> (x, , , sizes) }}"""
    )


def by_scales(scales: str, coordinates: str = "asymmetric") -> str:
    return (
        HEAD
        + f""" g (float[N,2,H,W] x) => (float[N,2,A,B] y) <float[4] s = {{{scales}}}>
        {{ y = Resize <mode = "linear", coordinate_transformation_mode = "{coordinates}"> (x, , s) }}"""
    )


def test_half_pixel_is_renamed_where_no_side_is_one_cell() -> None:
    check_pass(
        LegalizeDynamicResize(PPLNN, several=True), resize("half_pixel"), resize("pytorch_half_pixel"), atol=1e-6
    )
    check_pass(
        LegalizeDynamicResize(PPLNN, several=True),
        resize("half_pixel", "cubic"),
        resize("pytorch_half_pixel", "cubic"),
        atol=1e-6,
    )


@pytest.mark.parametrize("coordinates", ["align_corners", "asymmetric"])
def test_other_coordinates_are_products_also_where_no_side_is_one_cell(coordinates: str) -> None:
    graph = check_pass(LegalizeDynamicResize(PPLNN, several=True), resize(coordinates), None, atol=2e-5)
    assert "Resize" not in {node.op for node in graph.nodes}


def test_half_pixel_is_not_renamed_to_what_the_runtime_lacks() -> None:
    step = LegalizeDynamicResize(frozenset({("cubic", "pytorch_half_pixel")}), several=True)
    graph = check_pass(step, resize("half_pixel"), None, atol=2e-5)
    assert "Resize" not in {node.op for node in graph.nodes}


@pytest.mark.parametrize("coordinates", ["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"])
@pytest.mark.parametrize("sizes", [(5, 7, 9, 3), (4, 4, 1, 6), (1, 6, 3, 11), (6, 1, 1, 1), (33, 20, 129, 97)])
def test_any_coordinates_are_products(coordinates: str, sizes: tuple[int, int, int, int]) -> None:
    before, after = graph_of(resize(coordinates)), graph_of(resize(coordinates))
    assert LegalizeDynamicResize(frozenset()).run(after).changes == 1
    ir.cleanup(after)
    assert "Resize" not in {node.op for node in after.nodes}
    rng = np.random.default_rng(1)
    shapes = {"x": (1, 2, *sizes[:2]), "like": (1, 2, *sizes[2:])}
    feeds = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    want, got = (evaluate.outputs(graph, feeds)["y"] for graph in (before, after))
    np.testing.assert_allclose(got, want, atol=2e-5)


def test_the_result_is_valid_and_settled() -> None:
    check_pass(LegalizeDynamicResize(PPLNN), resize("align_corners"), None, atol=2e-5)
    check_pass(LegalizeDynamicResize(PPLNN), resize("align_corners", head=HEAD20), None, atol=2e-5)


@pytest.mark.parametrize("scales", ["1, 1, 2, 2", "1, 1, 1, 1.7", "1, 1, 0.5, 3"])
@pytest.mark.parametrize("coordinates", ["asymmetric", "half_pixel", "align_corners"])
def test_scales_are_products_too(scales: str, coordinates: str) -> None:
    check_pass(LegalizeDynamicResize(PPLNN), by_scales(scales, coordinates), None, atol=2e-5)


def test_axes_of_newer_opsets() -> None:
    text = (
        HEAD20
        + """ g (float[N,2,H,W] x) => (float[N,2,H,12] y) <int64[1] s = {12}>
        { y = Resize <mode = "linear", axes = [3], coordinate_transformation_mode = "align_corners"> (x, , , s) }"""
    )
    check_pass(LegalizeDynamicResize(PPLNN), text, None, atol=2e-5)


def test_one_known_cell_is_not_several() -> None:
    text = (
        HEAD
        + """ g (float[N,2,H,W] x) => (float[N,2,1,B] y) <float[4] s = {1, 1, 0.1, 1}>
        { y = Resize <mode = "linear", coordinate_transformation_mode = "half_pixel"> (x, , s) }"""
    )
    graph = graph_of(text)
    assert LegalizeDynamicResize(PPLNN, several=True).run(graph).changes == 1
    assert "Resize" not in {node.op for node in ir.cleanup(graph).nodes}


CROP = (
    resize("tf_crop_and_resize")
    .replace("(x, , , sizes)", "(x, roi, , sizes)")
    .replace("int64[1] two", "float[8] roi = {0, 0, 0, 0, 1, 1, 1, 1}, int64[1] two")
)
SMOOTH = resize("align_corners", head=HEAD20).replace('mode = "linear"', 'antialias = 1, mode = "linear"')
FLAT = (
    HEAD
    + """ g (float[N,2,W] x) => (float[N,2,B] y) <float[3] s = {1, 1, 2}>
    { y = Resize <mode = "linear", coordinate_transformation_mode = "align_corners"> (x, , s) }"""
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (resize("align_corners", "cubic"), "cubic align_corners, on sides that are not static"),
        (resize("half_pixel", "nearest"), "nearest half_pixel, on sides that are not static"),
        (by_scales("1, 2, 1, 1"), "axes other than the last two"),
        (CROP, "coordinate mode is tf_crop_and_resize"),
        (SMOOTH, "antialias"),
        (FLAT, "of 3 axes"),
    ],
)
def test_what_is_left_alone_says_why(text: str, reason: str) -> None:
    check_untouched(LegalizeDynamicResize(PPLNN), text, reason)


def test_allowed_kinds_and_static_sides_are_left_alone() -> None:
    check_untouched(LegalizeDynamicResize(PPLNN), resize("pytorch_half_pixel"), None)
    static = by_scales("1, 1, 2, 2").replace("float[N,2,H,W]", "float[1,2,4,4]").replace("[N,2,A,B]", "[1,2,8,8]")
    check_untouched(LegalizeDynamicResize(PPLNN), static, None)
