from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segc.passes.dialect.lower_adaptive_avg_pool import LowerAdaptiveAvgPool, bin_matrix, columns_first, stride
from segc.passes.support import evaluate
from segc.passes.support.pooling_bins import bin_bounds
from tests.helpers.checks import HEAD, HEAD20, apply, check_pass, check_untouched, graph_of


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


@pytest.mark.parametrize("batch", ["N,", ""])
def test_one_bin_becomes_a_mean_whatever_the_sides(batch: str) -> None:
    """Not a GlobalAveragePool: ONNX Runtime's adds in one chain, which is ten times less accurate on large maps."""
    check_pass(
        LowerAdaptiveAvgPool(),
        atol=1e-6,
        before=pool(f"{batch}3,H,W", "1, 1", f"{batch}3,1,1"),
        after=HEAD
        + f"""g (float[{batch}3,H,W] x) => (float[{batch}3,1,1] y)
        {{ y = ReduceMean <keepdims = 1, axes = [-2, -1]> (x) }}""",
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


def test_the_matmul_lowering_uses_no_pooling_op() -> None:
    graph = check_pass(LowerAdaptiveAvgPool("matmul"), pool("2,3,6,8", "3, 1", "2,3,3,1"), None, atol=1e-6)
    assert [n.op for n in graph.nodes] == ["MatMul", "MatMul"]


@pytest.mark.parametrize("head", [HEAD, HEAD20])
@pytest.mark.parametrize("shape", ["N,3,H,W", "3,H,W", "1,2,6,W", "2,1,H,9"])
@pytest.mark.parametrize("bins", [(2, 3), (6, 6), (-1, 4), (1, 5), (12, 1)])
def test_dynamic_sides_get_their_matrices_computed_in_the_graph(shape: str, bins: tuple[int, int], head: str) -> None:
    kept, sides = shape.split(",")[:-2], shape.split(",")[-2:]
    out = ",".join(kept + [s if b == -1 else str(b) for s, b in zip(sides, bins, strict=True)])
    check_pass(LowerAdaptiveAvgPool(), pool(shape, f"{bins[0]}, {bins[1]}", out, head), None, atol=1e-6)


@pytest.mark.parametrize("head", [HEAD, HEAD20])
@pytest.mark.parametrize(("shape", "bins"), [("2,3,5,7", (2, 3)), ("3,6,9", (4, 1)), ("1,2,4,4", (-1, 6))])
def test_slices_and_means_spell_every_pool_of_known_sides(shape: str, bins: tuple[int, int], head: str) -> None:
    kept, sides = shape.split(",")[:-2], shape.split(",")[-2:]
    out = ",".join(kept + [s if b == -1 else str(b) for s, b in zip(sides, bins, strict=True)])
    step = LowerAdaptiveAvgPool("slices")
    graph = check_pass(step, pool(shape, f"{bins[0]}, {bins[1]}", out, head), None, atol=1e-6)
    assert {n.op for n in graph.nodes} <= {"Slice", "ReduceMean", "Concat"}


def test_slices_of_two_bins_as_text() -> None:
    check_pass(
        LowerAdaptiveAvgPool("slices"),
        atol=1e-6,
        before=pool("1,1,3,4", "2, 4", "1,1,2,4"),
        after=HEAD
        + """ g (float[1,1,3,4] x) => (float[1,1,2,4] y) <int64[1] y_row0_from = {0}, int64[1] y_row0_to = {2},
        int64[1] y_row0_axis = {-2}, int64[1] y_row1_from = {1}, int64[1] y_row1_to = {3}, int64[1] y_row1_axis = {-2}>
        { y_row0 = Slice (x, y_row0_from, y_row0_to, y_row0_axis)
        y_row0_mean = ReduceMean <axes = [-2], keepdims = 1> (y_row0)
        y_row1 = Slice (x, y_row1_from, y_row1_to, y_row1_axis)
        y_row1_mean = ReduceMean <axes = [-2], keepdims = 1> (y_row1)
        y = Concat <axis = -2> (y_row0_mean, y_row1_mean) }""",
    )


@pytest.mark.parametrize(
    ("ops", "bins", "expected"),
    [
        ({"AveragePool", "MatMul"}, (3, 2), {"AveragePool"}),
        ({"AveragePool", "MatMul"}, (4, 2), {"MatMul"}),
        ({"MatMul", "Slice"}, (3, 2), {"MatMul"}),
        ({"AveragePool", "Slice", "ReduceMean", "Concat"}, (3, 2), {"AveragePool"}),
        ({"AveragePool", "Slice", "ReduceMean", "Concat"}, (4, 2), {"Slice", "ReduceMean", "Concat"}),
    ],
)
def test_the_cheapest_lowering_that_the_target_has_is_taken(
    ops: set[str], bins: tuple[int, int], expected: set[str]
) -> None:
    step = LowerAdaptiveAvgPool(ops=frozenset(ops))
    graph = check_pass(step, pool("1,2,6,8", f"{bins[0]}, {bins[1]}", f"1,2,{bins[0]},{bins[1]}"), None, atol=1e-6)
    assert {n.op for n in graph.nodes} == expected


@pytest.mark.parametrize(
    ("step", "shape", "reason"),
    [
        (LowerAdaptiveAvgPool("keep"), "1,2,5,7", "the target implements it"),
        (LowerAdaptiveAvgPool(dynamic=False), "1,2,H,7", "its sides are unknown"),
        (LowerAdaptiveAvgPool("slices"), "1,2,H,7", "slices needs known sides"),
        (
            LowerAdaptiveAvgPool(ops=frozenset({"Slice"})),
            "1,2,5,7",
            "matmul needs MatMul; slices needs Concat, ReduceMean",
        ),
        (LowerAdaptiveAvgPool(ops=frozenset({"MatMul"})), "1,2,H,7", "matmul needs Add, And, Cast, Div"),
    ],
)
def test_a_pool_without_a_lowering_stays_and_says_what_is_lacking(
    step: LowerAdaptiveAvgPool, shape: str, reason: str
) -> None:
    check_untouched(step, pool(shape, "2, 3", "1,2,2,3"), reason)
    assert ("no segc.AdaptiveAvgPool2d" in step.ensures) == (step.lowering != "keep" and step.dynamic)


def test_unknown_lowerings_are_refused() -> None:
    with pytest.raises(ValueError, match="'pool' is not a valid lowering; choose native, matmul, slices or keep"):
        LowerAdaptiveAvgPool("pool")  # type: ignore[arg-type]


@pytest.mark.parametrize("lowering", ["native", "matmul", "slices"])
@pytest.mark.parametrize(
    ("size", "shape"),
    [(1, (2, 3, 5, 7)), ((3, None), (2, 3, 5, 7)), ((None, 3), (3, 6, 9)), ((1, 1), (3, 5, 7)), (5, (1, 2, 10, 15))],
)
def test_every_lowering_is_torchs_pool(lowering: str, size: Any, shape: tuple[int, ...]) -> None:
    """Global pooling, sides that stay (None) and inputs without a batch axis included."""
    pair = (size, size) if isinstance(size, int) else size
    wanted = ", ".join("-1" if s is None else str(s) for s in pair)
    out = [*shape[:-2], *(side if s is None else s for s, side in zip(pair, shape[-2:], strict=True))]
    graph = graph_of(pool(",".join(map(str, shape)), wanted, ",".join(map(str, out)), HEAD20))
    apply(LowerAdaptiveAvgPool(lowering), graph)  # type: ignore[arg-type]
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    np.testing.assert_allclose(evaluate.outputs(graph, {"x": x})["y"], torch_pool(x, pair), atol=2e-6)


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
        changes=2,
    )


def test_a_graph_without_the_op_is_left_alone() -> None:
    check_untouched(LowerAdaptiveAvgPool(), HEAD + "g (float[1,2,H,W] x) => (float[1,2,H,W] y) { y = Relu (x) }", None)


def torch_pool(x: np.ndarray, size: tuple[int | None, int | None]) -> np.ndarray:
    torch = pytest.importorskip("torch")
    y: np.ndarray = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(x), size).numpy()
    return y


@pytest.mark.parametrize("bins", range(1, 13))
def test_the_matrix_is_torchs_pool_for_every_side_up_to_200(bins: int) -> None:
    """Exhaustive in one dimension; rows and columns average independently. Pooling the identity gives the matrix."""
    torch = pytest.importorskip("torch")
    for side in range(1, 201):
        matrix = bin_matrix(side, bins)
        np.testing.assert_allclose(matrix.sum(axis=1, dtype=np.float64), 1, atol=1e-6)
        want = torch.nn.functional.adaptive_avg_pool1d(torch.eye(side)[None], bins)[0].numpy().T
        np.testing.assert_allclose(matrix, want, rtol=1e-6, atol=1e-8)


def test_the_bounds_are_torchs_formula() -> None:
    """All bins of all sides up to 200: no bin is empty, bins are in order, and together they cover the side."""
    for side in range(1, 201):
        for bins in range(1, 13):
            bounds = bin_bounds(side, bins)
            assert bounds == [(i * side // bins, math.ceil((i + 1) * side / bins)) for i in range(bins)]
            assert {c for low, high in bounds for c in range(low, high)} == set(range(side))
            assert all(low < high for low, high in bounds)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 200), st.integers(1, 40)),
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.sampled_from(["dynamic", "native", "matmul", "slices"]),
)
def test_lowered_graphs_agree_with_torch(side: tuple[int, int], bins: tuple[int, int], kind: Any) -> None:
    """Static and dynamic, more bins than cells included."""
    sides = f"{side[0]},{side[1]}" if kind != "dynamic" else "H,W"
    graph = graph_of(pool(f"1,2,{sides}", f"{bins[0]}, {bins[1]}", f"1,2,{bins[0]},{bins[1]}", HEAD20))
    LowerAdaptiveAvgPool(*([] if kind == "dynamic" else [kind])).run(graph)
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
