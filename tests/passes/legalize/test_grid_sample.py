from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from segc.graph import ir
from segc.passes.legalize.grid_sample import LegalizeGridSample
from segc.passes.support import evaluate
from tests.helpers.checks import HEAD, HEAD20, check_pass, check_untouched, graph_of


def sample(shape: str, grid: str, out: str, attrs: str, head: str = HEAD20) -> str:
    return (
        head
        + f""" g (float[{shape}] x, float[{grid}] grid) => (float[{out}] y)
        {{ y = GridSample <{attrs}> (x, grid) }}"""
    )


def test_nearest_with_border_reads_the_clipped_cell() -> None:
    check_pass(
        LegalizeGridSample(),
        sample("N,2,3,4", "N,5,6,2", "N,2,5,6", 'mode = "nearest", padding_mode = "border", align_corners = 1'),
        HEAD20
        + """ g (float[N,2,3,4] x, float[N,5,6,2] grid) => (float[N,2,5,6] y)
        <int64[3] y_points_shape = {-1, 30, 2},
         int64[1] y_col_grid_starts = {0}, int64[1] y_col_grid_ends = {1}, int64[1] y_col_grid_axes = {2},
         int64[1] y_row_grid_starts = {1}, int64[1] y_row_grid_ends = {2}, int64[1] y_row_grid_axes = {2},
         float y_col_one = {1}, float y_col_two = {2}, float y_col_span = {3},
         float y_row_one = {1}, float y_row_two = {2}, float y_row_span = {2},
         int64[3] y_cells_shape = {-1, 2, 12}, float y_at_row_first = {0}, float y_at_row_last = {2},
         float y_at_col_first = {0}, float y_at_col_last = {3}, int64 y_at_width = {4},
         int64[3] y_at_channels = {1, 1, 2}, int64[4] y_map_shape = {-1, 2, 5, 6}>
        {
            y_points = Reshape (grid, y_points_shape)
            y_col_grid = Slice (y_points, y_col_grid_starts, y_col_grid_ends, y_col_grid_axes)
            y_col_moved = Add (y_col_grid, y_col_one)
            y_col_halved = Div (y_col_moved, y_col_two)
            y_col_at = Mul (y_col_halved, y_col_span)
            y_row_grid = Slice (y_points, y_row_grid_starts, y_row_grid_ends, y_row_grid_axes)
            y_row_moved = Add (y_row_grid, y_row_one)
            y_row_halved = Div (y_row_moved, y_row_two)
            y_row_at = Mul (y_row_halved, y_row_span)
            y_cells = Reshape (x, y_cells_shape)
            y_pixels = Transpose <perm = [0, 2, 1]> (y_cells)
            y_row_round = Round (y_row_at)
            y_col_round = Round (y_col_at)
            y_at_row_inside = Clip (y_row_round, y_at_row_first, y_at_row_last)
            y_at_col_inside = Clip (y_col_round, y_at_col_first, y_at_col_last)
            y_at_row_index = Cast <to = 7> (y_at_row_inside)
            y_at_col_index = Cast <to = 7> (y_at_col_inside)
            y_at_first = Mul (y_at_row_index, y_at_width)
            y_at_index = Add (y_at_first, y_at_col_index)
            y_at_all = Expand (y_at_index, y_at_channels)
            y_at_cells = GatherElements <axis = 1> (y_pixels, y_at_all)
            y_planes = Transpose <perm = [0, 2, 1]> (y_at_cells)
            y = Reshape (y_planes, y_map_shape)
        }""",
        atol=1e-6,
    )


@pytest.mark.parametrize("head", [HEAD, HEAD20])
@pytest.mark.parametrize("mode", ["linear", "nearest"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("align", [0, 1])
@pytest.mark.parametrize("grid", ["2,5,6,2", "N,P,6,2", "N,P,Q,2"])
def test_all_kinds(head: str, mode: str, padding: str, align: int, grid: str) -> None:
    name = "bilinear" if head == HEAD and mode == "linear" else mode
    attrs = f'mode = "{name}", padding_mode = "{padding}", align_corners = {align}'
    batch, *sides, _ = grid.split(",")
    text = sample(f"{batch},2,3,4", grid, f"{batch},2,{sides[0]},{sides[1]}", attrs, head)
    graph = check_pass(LegalizeGridSample(), text, None, atol=2e-5)
    assert "GridSample" not in {n.op for n in graph.nodes}


@pytest.mark.parametrize("mode", ["linear", "nearest"])
@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize("align", [0, 1])
def test_sides_that_are_known_at_run_time_only(mode: str, padding: str, align: int) -> None:
    attrs = f'mode = "{mode}", padding_mode = "{padding}", align_corners = {align}'
    check_pass(LegalizeGridSample(), sample("N,2,H,W", "N,P,Q,2", "N,2,P,Q", attrs), None, atol=5e-5)
    check_pass(LegalizeGridSample(), sample("N,2,H,4", "N,5,6,2", "N,2,5,6", attrs), None, atol=5e-5)


def test_an_infinite_cell_outside_does_not_reach_a_pixel() -> None:
    graph = graph_of(sample("1,1,2,2", "1,1,1,2", "1,1,1,1", 'mode = "nearest"'))
    LegalizeGridSample().run(graph)
    x = np.full((1, 1, 2, 2), np.inf, np.float32)
    outside = np.full((1, 1, 1, 2), -3, np.float32)
    assert evaluate.outputs(graph, {"x": x, "grid": outside})["y"].item() == 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (sample("1,2,3,4", "1,5,6,2", "1,2,5,6", 'mode = "cubic"'), "mode is cubic"),
        (sample("1,2,3,4", "1,5,6,2", "1,2,5,6", 'mode = "bicubic"', HEAD), "mode is cubic"),
        (sample("1,2,3,4,5", "1,5,6,7,3", "1,2,5,6,7", ""), "'x' has 3 sides"),
        (sample("1,C,3,4", "1,5,6,2", "1,C,5,6", ""), "channels of 'x' are not static"),
        (sample("1,2,H,4", "1,5,6,2", "1,2,5,6", 'padding_mode = "reflection"'), "it reflects, and the sides of 'x'"),
    ],
)
def test_what_is_left_alone_says_why(text: str, reason: str) -> None:
    check_untouched(LegalizeGridSample(), text.replace("<>", ""), reason)


def test_a_graph_without_the_op_is_left_alone() -> None:
    check_untouched(LegalizeGridSample(), HEAD + "g (float[1,2,H,W] x) => (float[1,2,H,W] y) { y = Relu (x) }", None)


@settings(max_examples=150, deadline=None)
@given(
    st.tuples(st.integers(1, 7), st.integers(1, 7)),
    st.sampled_from(["linear", "nearest"]),
    st.sampled_from(["zeros", "border", "reflection"]),
    st.booleans(),
    st.integers(0, 99),
    st.sampled_from([0.9, 1.5, 6.0]),
)
def test_random_points_near_and_far_agree_with_the_runtime_and_torch(
    sides: tuple[int, int], mode: str, padding: str, align: bool, seed: int, reach: float
) -> None:
    assume(not (padding == "reflection" and align and 1 in sides))  # the runtime divides by zero there
    torch = pytest.importorskip("torch")
    attrs = f'mode = "{mode}", padding_mode = "{padding}", align_corners = {int(align)}'
    text = sample(f"2,3,{sides[0]},{sides[1]}", "2,4,5,2", "2,3,4,5", attrs)
    original, graph = graph_of(text), graph_of(text)
    assert LegalizeGridSample().run(graph).changes == 1
    rng = np.random.default_rng(seed)
    feeds = {
        "x": rng.standard_normal((2, 3, *sides)).astype(np.float32),
        "grid": rng.uniform(-reach, reach, (2, 4, 5, 2)).astype(np.float32),
    }
    got, want = (evaluate.outputs(g, feeds)["y"] for g in (graph, original))
    np.testing.assert_allclose(got, want, atol=1e-4)
    sampled = torch.nn.functional.grid_sample(
        *map(torch.from_numpy, feeds.values()), {"linear": "bilinear"}.get(mode, mode), padding, align
    )
    np.testing.assert_allclose(got, sampled.numpy(), atol=1e-4)


@pytest.mark.parametrize("mode", ["linear", "nearest"])
def test_a_map_of_one_cell_reflects_into_that_cell(mode: str) -> None:
    """ONNX Runtime divides by zero there, so the number is known without it."""
    attrs = f'mode = "{mode}", padding_mode = "reflection", align_corners = 1'
    graph = graph_of(sample("1,1,1,1", "1,2,3,2", "1,1,2,3", attrs))
    assert LegalizeGridSample().run(graph).changes == 1
    grid = np.linspace(-3, 3, 12, dtype=np.float32).reshape(1, 2, 3, 2)
    feeds = {"x": np.full((1, 1, 1, 1), 5, np.float32), "grid": grid}
    np.testing.assert_array_equal(evaluate.outputs(ir.cleanup(graph), feeds)["y"], np.full((1, 1, 2, 3), 5))
