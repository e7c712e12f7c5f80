from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segc.passes.legalize.resize import LegalizeResize
from segc.passes.support import evaluate
from segc.passes.support.resize_matrix import COORDINATES, ROUNDINGS, output_size
from tests.helpers.checks import HEAD, HEAD20, check_pass, check_untouched, graph_of

NOTHING = LegalizeResize(modes=frozenset())
HALF = LegalizeResize(modes=frozenset({("linear", "half_pixel"), ("nearest", "asymmetric")}))


def resize(shape: str, out: str, attrs: str, head: str = HEAD) -> str:
    rank = len(shape.split(","))
    return (
        head
        + f""" g (float[{shape}] x) => (float[{out}] y) <int64[{rank}] sizes = {{{out}}}>
        {{ y = Resize <{attrs}> (x, , , sizes) }}"""
    )


def linear(coordinates: str) -> str:
    return f'mode = "linear", coordinate_transformation_mode = "{coordinates}"'


def nearest(coordinates: str, rounding: str) -> str:
    return f'mode = "nearest", coordinate_transformation_mode = "{coordinates}", nearest_mode = "{rounding}"'


def test_torch_s_half_pixel_is_half_pixel_but_for_a_single_cell() -> None:
    check_pass(
        HALF,
        resize("1,2,3,4", "1,2,6,7", linear("pytorch_half_pixel")),
        resize("1,2,3,4", "1,2,6,7", linear("half_pixel")),
    )
    graph = check_pass(HALF, resize("1,2,3,4", "1,2,6,1", linear("pytorch_half_pixel")), None, atol=1e-5)
    assert [n.op for n in graph.nodes] == ["MatMul", "MatMul"]


def test_a_kind_without_an_equal_becomes_two_products() -> None:
    check_pass(
        HALF,
        resize("1,2,2,3", "1,2,3,5", linear("align_corners")),
        HEAD
        + """ g (float[1,2,2,3] x) => (float[1,2,3,5] y)
        <float[3,5] y_cols = {1, 0.5, 0, 0, 0, 0, 0.5, 1, 0.5, 0, 0, 0, 0, 0.5, 1},
         float[3,2] y_rows = {1, 0, 0.5, 0.5, 0, 1}>
        { y_across = MatMul (x, y_cols)  y = MatMul (y_rows, y_across) }""",
        atol=1e-6,
    )


def test_a_kept_side_needs_no_product() -> None:
    graph = check_pass(NOTHING, resize("1,2,3,4", "1,2,6,4", linear("half_pixel")), None, atol=1e-6)
    assert [n.op for n in graph.nodes] == ["MatMul"]
    graph = check_pass(NOTHING, resize("1,2,3,4", "1,2,3,4", linear("half_pixel")), None)
    assert [n.op for n in graph.nodes] == ["Identity"]


def test_a_kept_side_may_read_differently_where_its_only_cell_is_special() -> None:
    graph = check_pass(HALF, resize("1,2,3,3", "1,2,3,6", linear("align_corners")), None, atol=1e-6)
    assert [n.op for n in graph.nodes] == ["MatMul"]


def test_nearest_by_whole_factors_is_floor_of_asymmetric() -> None:
    check_pass(
        HALF,
        resize("1,2,3,4", "1,2,6,12", nearest("half_pixel", "round_prefer_floor")),
        resize("1,2,3,4", "1,2,6,12", nearest("asymmetric", "floor")),
    )


def test_nearest_by_other_factors_becomes_products_of_zeros_and_ones() -> None:
    graph = check_pass(HALF, resize("1,2,5,7", "1,2,7,3", nearest("half_pixel", "round_prefer_floor")), None)
    assert [n.op for n in graph.nodes] == ["MatMul", "MatMul"]


def test_scales_and_axes_and_single_precision_of_the_matrices() -> None:
    graph = check_pass(
        NOTHING,
        HEAD20
        + """ g (float16[N,2,3,4] x) => (float16[N,2,6,10] y) <float[2] scales = {2.5, 2}>
        { y = Resize <mode = "linear", axes = [3, 2]> (x, , scales) }""".replace("N", "1"),
        None,
        atol=5e-3,
    )
    assert {t.dtype for n in graph.nodes for t in n.inputs} == {np.dtype(np.float16)}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (resize("1,2,3,4", "1,2,6,7", linear("tf_crop_and_resize")), "coordinate mode is tf_crop_and_resize"),
        (resize("1,2,3,4", "1,4,6,7", linear("align_corners")), "it resizes axes other than the last two"),
        (resize("1,2,3,4", "1,2,2,2", linear("align_corners") + ", antialias = 1", HEAD20), "it has antialias"),
        (resize("1,2,H,4", "1,2,6,7", linear("align_corners")), "'x' has a side that is not static"),
        (resize("4", "6", linear("align_corners")), "'x' has 1 axes"),
        (
            resize("1,2,3,4", "1,2,6,7", nearest("half_pixel_symmetric", "floor"), HEAD20),
            "rounding of nearest half_pixel_symmetric is not defined",
        ),
        (
            resize("1,2,3,4", "1,2,6,7", linear("half_pixel").replace("linear", "cubic")).replace("float[", "int32["),
            "'x' is int32",
        ),
        (
            resize("3,4", "6,8", linear("align_corners") + ', keep_aspect_ratio_policy = "not_larger"', HEAD20),
            "it keeps the aspect ratio",
        ),
        (
            HEAD
            + """ g (float[2,3] x) => (float[2,3] y) <float[2] scales = {1.25, 1}>
            { y = Resize <mode = "cubic"> (x, , scales) }""",
            "a scale other than 1 does not change its side",
        ),
        (
            HEAD
            + """ g (float[2,3] x, float[2] scales) => (float[4,6] y) { y = Resize <mode = "cubic"> (x, , scales) }""",
            "its scales are not constant",
        ),
    ],
)
def test_what_is_left_alone_says_why(text: str, reason: str) -> None:
    check_untouched(HALF, text, reason)


def test_allowed_kinds_are_none_of_our_business() -> None:
    check_untouched(HALF, resize("1,2,3,4", "1,2,6,7", linear("half_pixel")), None)
    check_untouched(HALF, resize("1,2,3,4", "1,2,6,7", nearest("asymmetric", "floor")), None)


sides = st.integers(1, 40)


@settings(max_examples=120, deadline=None)
@given(
    st.tuples(sides, sides),
    st.tuples(sides, sides),
    st.sampled_from(["nearest", "linear", "cubic"]),
    st.sampled_from([c for c in COORDINATES if c != "half_pixel_symmetric"]),
    st.sampled_from(ROUNDINGS),
    st.sampled_from([-0.75, -0.5]),
    st.booleans(),
)
def test_every_kind_and_size_keeps_its_numbers(
    before: tuple[int, int], after: tuple[int, int], mode: str, where: str, rounding: str, a: float, products: bool
) -> None:
    attrs = f'mode = "{mode}", coordinate_transformation_mode = "{where}", nearest_mode = "{rounding}"'
    text = resize(f"1,2,{before[0]},{before[1]}", f"1,2,{after[0]},{after[1]}", f"{attrs}, cubic_coeff_a = {a:.2f}")
    original, graph = graph_of(text), graph_of(text)
    (NOTHING if products else HALF).run(graph)
    graph.cleanup().toposort()
    x = np.random.default_rng(0).standard_normal((1, 2, *before)).astype(np.float32)
    want, got = (evaluate.outputs(g, {"x": x})["y"] for g in (original, graph))
    np.testing.assert_allclose(got, want, atol=0 if mode == "nearest" else 2e-4)


@settings(max_examples=80, deadline=None)
@given(st.tuples(sides, sides), st.tuples(sides, sides), st.booleans(), st.sampled_from(["bilinear", "bicubic"]))
def test_it_agrees_with_torch(before: tuple[int, int], after: tuple[int, int], align: bool, mode: str) -> None:
    torch = pytest.importorskip("torch")
    kind = {"bilinear": "linear", "bicubic": "cubic"}[mode]
    where = "align_corners" if align else "half_pixel"
    attrs = f'mode = "{kind}", coordinate_transformation_mode = "{where}"'
    graph = graph_of(resize(f"1,2,{before[0]},{before[1]}", f"1,2,{after[0]},{after[1]}", attrs))
    NOTHING.run(graph)
    x = np.random.default_rng(0).standard_normal((1, 2, *before)).astype(np.float32)
    want = torch.nn.functional.interpolate(torch.from_numpy(x), after, mode=mode, align_corners=align)
    np.testing.assert_allclose(evaluate.outputs(graph, {"x": x})["y"], want.numpy(), atol=5e-5)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 30), st.floats(0.25, 4, width=32), st.sampled_from(["nearest", "linear"]))
def test_scales_keep_their_numbers(side: int, scale: float, mode: str) -> None:
    out = output_size(side, scale)
    if out in (0, side):
        return
    text = (
        HEAD
        + f""" g (float[1,1,2,{side}] x) => (float[1,1,4,{out}] y) <float[4] s = {{1, 1, 2, {scale:.9g}}}>
        {{ y = Resize <mode = "{mode}"> (x, , s) }}"""
    )
    original, graph = graph_of(text), graph_of(text)
    assert NOTHING.run(graph).changes == 1
    x = np.random.default_rng(0).standard_normal((1, 1, 2, side)).astype(np.float32)
    want, got = (evaluate.outputs(g, {"x": x})["y"] for g in (original, graph))
    np.testing.assert_allclose(got, want, atol=0 if mode == "nearest" else 2e-5)
