from __future__ import annotations

import numpy as np
import pytest
from checks import HEAD, HEAD20, check_pass, check_untouched, graph_of
from hypothesis import given, settings
from hypothesis import strategies as st

from segc.passes import LowerAdaptiveAvgPool, evaluate
from segc.passes.lower_adaptive_avg_pool import bin_matrix, columns_first, stride


def pool(shape: str, size: str, out: str, head: str = HEAD) -> str:
    return (
        f"{head} g (float[{shape}] x) => (float[{out}] y) {{ y = segc.AdaptiveAvgPool2d <output_size = [{size}]> (x) }}"
    )


def test_bins_that_do_not_divide_the_side_become_two_matmuls() -> None:
    """A pool with kernel = stride = side // bins gives the wrong size here, and wrong values for 33 and 6."""
    check_pass(
        LowerAdaptiveAvgPool(),
        atol=1e-6,
        before=pool("1,1,3,4", "2, 3", "1,1,2,3"),
        after=HEAD
        + """ g (float[1,1,3,4] x) => (float[1,1,2,3] y)
        <float[4,3] y_cols = {0.5, 0, 0, 0.5, 0.5, 0, 0, 0.5, 0.5, 0, 0, 0.5},
         float[2,3] y_rows = {0.5, 0.5, 0, 0, 0.5, 0.5}>
        { y_down = MatMul (y_rows, x)  y = MatMul (y_down, y_cols) }""",
    )


def test_bins_that_divide_both_sides_become_an_average_pool() -> None:
    check_pass(
        LowerAdaptiveAvgPool(),
        atol=1e-6,
        before=pool("2,3,6,8", "3, 2", "2,3,3,2"),
        after=HEAD
        + """ g (float[2,3,6,8] x) => (float[2,3,3,2] y)
        { y = AveragePool <kernel_shape = [2, 4], strides = [2, 4]> (x) }""",
    )


def test_one_bin_becomes_a_global_average_pool_whatever_the_sides() -> None:
    check_pass(
        LowerAdaptiveAvgPool(),
        atol=1e-6,
        before=pool("N,3,H,W", "1, 1", "N,3,1,1"),
        after=HEAD + "g (float[N,3,H,W] x) => (float[N,3,1,1] y) { y = GlobalAveragePool (x) }",
    )


def test_one_bin_of_an_input_without_batch_is_a_mean_because_onnx_pools_want_a_batch() -> None:
    check_pass(
        LowerAdaptiveAvgPool(),
        atol=1e-6,
        before=pool("3,H,W", "1, 1", "3,1,1"),
        after=HEAD + "g (float[3,H,W] x) => (float[3,1,1] y) { y = ReduceMean <keepdims = 1, axes = [-2, -1]> (x) }",
    )


def test_reduce_mean_takes_its_axes_as_an_input_from_opset_18_on() -> None:
    check_pass(
        LowerAdaptiveAvgPool(),
        atol=1e-6,
        before=pool("3,H,W", "1, -1", "3,1,W", HEAD20),
        after=HEAD20
        + """g (float[3,H,W] x) => (float[3,1,W] y) <int64[1] y_axes = {-2}>
        { y = ReduceMean <keepdims = 1> (x, y_axes) }""",
    )


def test_as_many_bins_as_cells_is_no_pool_at_all() -> None:
    check_pass(
        LowerAdaptiveAvgPool(),
        before=pool("1,2,3,W", "3, -1", "1,2,3,W"),
        after=HEAD + "g (float[1,2,3,W] x) => (float[1,2,3,W] y) { y = Identity (x) }",
    )


def test_a_kept_side_needs_one_matmul_only() -> None:
    graph = check_pass(LowerAdaptiveAvgPool(), pool("1,2,5,7", "3, -1", "1,2,3,7"), None, atol=1e-6)
    assert [n.op for n in graph.nodes] == ["MatMul"]


def test_the_matmul_spelling_uses_no_pooling_op() -> None:
    graph = check_pass(LowerAdaptiveAvgPool("matmul"), pool("2,3,6,8", "3, 1", "2,3,3,1"), None, atol=1e-6)
    assert [n.op for n in graph.nodes] == ["MatMul", "MatMul"]


@pytest.mark.parametrize("head", [HEAD, HEAD20])
@pytest.mark.parametrize("shape", ["N,3,H,W", "3,H,W", "1,2,6,W", "2,1,H,9"])
@pytest.mark.parametrize("bins", [(2, 3), (6, 6), (-1, 4), (1, 5), (12, 1)])
def test_dynamic_sides_get_their_matrices_computed_in_the_graph(shape: str, bins: tuple[int, int], head: str) -> None:
    kept, sides = shape.split(",")[:-2], shape.split(",")[-2:]
    out = ",".join(kept + [s if b == -1 else str(b) for s, b in zip(sides, bins, strict=True)])
    check_pass(LowerAdaptiveAvgPool(), pool(shape, f"{bins[0]}, {bins[1]}", out, head), None, atol=1e-6)


def test_half_precision_stays_half_precision() -> None:
    text = pool("1,2,H,6", "4, 4", "1,2,4,4").replace("float[", "float16[")
    graph = check_pass(LowerAdaptiveAvgPool(), text, None, atol=1e-2)
    assert {t.dtype for n in graph.nodes for t in n.outputs if n.op in ("MatMul", "Div")} >= {np.dtype(np.float16)}


def test_two_pools_of_one_tensor_do_not_share_names() -> None:
    check_pass(
        LowerAdaptiveAvgPool(),
        HEAD
        + """ g (float[1,2,H,W] x) => (float[1,2,3,3] y, float[1,2,2,2] z)
        { y = segc.AdaptiveAvgPool2d <output_size = [3, 3]> (x)
          z = segc.AdaptiveAvgPool2d <output_size = [2, 2]> (x) }""",
        None,
        atol=1e-6,
    )


def test_a_graph_without_the_op_is_left_alone() -> None:
    check_untouched(LowerAdaptiveAvgPool(), HEAD + "g (float[1,2,H,W] x) => (float[1,2,H,W] y) { y = Relu (x) }", None)


def torch_pool(x: np.ndarray, size: tuple[int | None, int | None]) -> np.ndarray:
    torch = pytest.importorskip("torch")
    y: np.ndarray = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(x), size).numpy()
    return y


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 200), st.integers(1, 12))
def test_matrix_rows_sum_to_one_and_agree_with_torch(side: int, bins: int) -> None:
    matrix = bin_matrix(side, bins)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-6)
    cells = np.eye(side, dtype=np.float32)[None]  # (1, side, side): pooling the identity gives the matrix itself
    np.testing.assert_allclose(torch_pool(cells, (bins, side))[0], matrix, atol=1e-7)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 200), st.integers(1, 40)), st.tuples(st.integers(1, 12), st.integers(1, 12)), st.booleans()
)
def test_lowered_graphs_agree_with_torch(side: tuple[int, int], bins: tuple[int, int], static: bool) -> None:
    """Static and dynamic, more bins than cells included."""
    sides = f"{side[0]},{side[1]}" if static else "H,W"
    graph = graph_of(pool(f"1,2,{sides}", f"{bins[0]}, {bins[1]}", f"1,2,{bins[0]},{bins[1]}", HEAD20))
    LowerAdaptiveAvgPool().run(graph)
    x = np.random.default_rng(0).standard_normal((1, 2, *side)).astype(np.float32)
    np.testing.assert_allclose(evaluate.outputs(graph, {"x": x})["y"], torch_pool(x, bins), atol=2e-6)


@given(*[st.integers(1, 64)] * 4)
def test_the_cheaper_order_of_the_two_products_is_chosen(height: int, width: int, rows: int, cols: int) -> None:
    columns = height * width * cols + height * cols * rows
    across = height * width * rows + rows * width * cols
    assert (columns if columns_first(height, width, rows, cols) else across) == min(columns, across)


def test_stride_is_none_where_an_average_pool_would_be_wrong() -> None:
    assert stride(16, 6) is None and stride(4, 6) is None and stride(None, 2) is None
    assert stride(12, 6) == 2 and stride(None, -1) == 1
