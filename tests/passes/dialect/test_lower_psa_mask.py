from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segc.passes.dialect.lower_psa_mask import LowerPSAMask, reachable
from segc.passes.support import evaluate
from tests.helpers.checks import HEAD, HEAD20, check_pass, check_untouched, graph_of
from tests.helpers.psamask import recorded


def mask(shape: str, out: str, kind: int, size: tuple[int, int], head: str = HEAD) -> str:
    return (
        head
        + f""" g (float[{shape}] x) => (float[{out}] y)
        {{ y = segc.PSAMask <psa_type = {kind}, mask_size = [{size[0]}, {size[1]}]> (x) }}"""
    )


def slow(x: np.ndarray, kind: int, size: tuple[int, int]) -> np.ndarray:
    """The definition of the paper, a weight at a time.

    Place (p, q) of the mask of pixel (h, w) speaks of the pixel that lies (p - half, q - half) from it. With psa_type 0
    that pixel's weight is kept at (h, w), with 1 the weight of (h, w) is kept there.
    """
    batch, _, height, width = x.shape
    y = np.zeros((batch, height, width, height, width), x.dtype)
    for h, w, p, q in np.ndindex(height, width, *size):
        i, j = h + p - (size[0] - 1) // 2, w + q - (size[1] - 1) // 2
        if 0 <= i < height and 0 <= j < width:
            weight = x[:, p * size[1] + q, h, w]
            if kind == 0:
                y[:, i, j, h, w] = weight
            else:
                y[:, h, w, i, j] = weight
    return y.reshape(batch, height * width, height, width)


def test_collecting_shifts_rows_and_then_columns() -> None:
    check_pass(
        LowerPSAMask(),
        mask("N,9,2,2", "N,4,2,2", 0, (3, 3)),
        HEAD
        + """ g (float[N,9,2,2] x) => (float[N,4,2,2] y)
        <int64[5] y_mask_shape = {-1, 3, 3, 2, 2}, int64[10] y_rows_pads = {0, 0, 0, 0, 0, 0, 0, 0, 0, 2},
         int64[4] y_rows_flat_shape = {-1, 3, 2, 10}, int64[1] y_rows_cut_starts = {0}, int64[1] y_rows_cut_ends = {8},
         int64[1] y_rows_cut_axes = {3}, int64[5] y_rows_skewed_shape = {-1, 3, 2, 2, 4},
         int64[1] y_rows_shifted_starts = {1}, int64[1] y_rows_shifted_ends = {3}, int64[1] y_rows_shifted_axes = {4},
         int64[10] y_cols_pads = {0, 0, 0, 0, 0, 0, 0, 0, 0, 2}, int64[4] y_cols_flat_shape = {-1, 2, 2, 10},
         int64[1] y_cols_cut_starts = {0}, int64[1] y_cols_cut_ends = {8}, int64[1] y_cols_cut_axes = {3},
         int64[5] y_cols_skewed_shape = {-1, 2, 2, 2, 4}, int64[1] y_cols_shifted_starts = {1},
         int64[1] y_cols_shifted_ends = {3}, int64[1] y_cols_shifted_axes = {4},
         int64[4] y_attention_shape = {-1, 4, 2, 2}>
        {
            y_mask = Reshape (x, y_mask_shape)
            y_by_row = Transpose <perm = [0, 2, 4, 3, 1]> (y_mask)
            y_rows_padded = Pad (y_by_row, y_rows_pads)
            y_rows_flat = Reshape (y_rows_padded, y_rows_flat_shape)
            y_rows_cut = Slice (y_rows_flat, y_rows_cut_starts, y_rows_cut_ends, y_rows_cut_axes)
            y_rows_skewed = Reshape (y_rows_cut, y_rows_skewed_shape)
            y_rows_shifted = Slice (y_rows_skewed, y_rows_shifted_starts, y_rows_shifted_ends, y_rows_shifted_axes)
            y_by_col = Transpose <perm = [0, 4, 3, 2, 1]> (y_rows_shifted)
            y_cols_padded = Pad (y_by_col, y_cols_pads)
            y_cols_flat = Reshape (y_cols_padded, y_cols_flat_shape)
            y_cols_cut = Slice (y_cols_flat, y_cols_cut_starts, y_cols_cut_ends, y_cols_cut_axes)
            y_cols_skewed = Reshape (y_cols_cut, y_cols_skewed_shape)
            y_cols_shifted = Slice (y_cols_skewed, y_cols_shifted_starts, y_cols_shifted_ends, y_cols_shifted_axes)
            y_pairs = Transpose <perm = [0, 1, 4, 2, 3]> (y_cols_shifted)
            y = Reshape (y_pairs, y_attention_shape)
        }""",
    )


@pytest.mark.parametrize("head", [HEAD, HEAD20])
@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize("size", [(3, 3), (5, 9), (15, 13), (1, 1), (4, 2)])
def test_masks_smaller_and_larger_than_the_map(kind: int, size: tuple[int, int], head: str) -> None:
    graph = check_pass(LowerPSAMask(), mask(f"N,{size[0] * size[1]},4,5", "N,20,4,5", kind, size, head), None)
    assert not any(n.domain for n in graph.nodes)
    assert {n.op for n in graph.nodes} <= {"Pad", "Reshape", "Slice", "Transpose"}


def test_sides_that_are_not_static_are_left_alone() -> None:
    check_untouched(LowerPSAMask(), mask("1,9,H,4", "1,C,H,4", 0, (3, 3)), "the sides H and 4 of")


def test_a_graph_without_the_op_is_left_alone() -> None:
    check_untouched(LowerPSAMask(), HEAD + "g (float[1,2,H,W] x) => (float[1,2,H,W] y) { y = Relu (x) }", None)


@settings(max_examples=80, deadline=None)
@given(
    st.tuples(st.integers(1, 7), st.integers(1, 7)),
    st.tuples(st.integers(1, 14), st.integers(1, 14)),
    st.integers(0, 1),
    st.integers(1, 2),
    st.booleans(),
)
def test_body_and_lowering_are_the_definition(
    sides: tuple[int, int], size: tuple[int, int], kind: int, batch: int, lowered: bool
) -> None:
    cells = sides[0] * sides[1]
    shape = f"{size[0] * size[1]},{sides[0]},{sides[1]}"
    graph = graph_of(mask(f"{batch},{shape}", f"{batch},{cells},{sides[0]},{sides[1]}", kind, size))
    if lowered:
        assert LowerPSAMask().run(graph).changes == 1
    x = np.random.default_rng(0).standard_normal((batch, size[0] * size[1], *sides)).astype(np.float32)
    np.testing.assert_array_equal(evaluate.outputs(graph, {"x": x})["y"], slow(x, kind, size))


def test_body_and_lowering_agree_with_mmcv_s_kernel() -> None:
    for case in recorded():
        shapes = [",".join(map(str, a.shape)) for a in (case.x, case.y)]
        graph = graph_of(mask(shapes[0], shapes[1], case.psa_type, case.mask_size))
        np.testing.assert_array_equal(evaluate.outputs(graph, {"x": case.x})["y"], case.y, err_msg=case.name)
        assert LowerPSAMask().run(graph).changes == 1
        np.testing.assert_array_equal(evaluate.outputs(graph, {"x": case.x})["y"], case.y, err_msg=case.name)


@given(st.integers(1, 40), st.integers(1, 20))
def test_reachable_places_are_those_that_some_pair_of_pixels_needs(size: int, side: int) -> None:
    needed = {i - h + (size - 1) // 2 for i in range(side) for h in range(side)} & set(range(size))
    assert sorted(needed) == list(range(*reachable(size, side)))
