from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segc.graph import ir
from segc.passes.dialect.lower_adaptive_avg_pool import LowerAdaptiveAvgPool
from segc.passes.dialect.recognize_adaptive_avg_pool import RecognizeAdaptiveAvgPool
from segc.pipeline import stages
from tests.helpers.checks import HEAD, HEAD20, apply, check_numbers, check_pass, check_untouched, graph_of, text_of

CONSTANTS = """<int64[1] z = {0}, int64[1] o = {1}, int64[1] t = {2}, int64[1] h = {3},
    int64[1] f = {4}, int64[1] q = {5}, int64[1] a2 = {2}, int64[1] a3 = {3}, int64[1] a1 = {1}, float half = {0.5},
    float[1,1,2,1] sizes = {3, 3}, float[1,1,2,1] wrong = {3, 2}>"""

# Two bins over five rows: rows 0 to 2 and 2 to 4.
ROWS = """b = Slice (x, z, h, a2)  c = Slice (x, t, q, a2)
    d = ReduceMean <axes = [2]> (b)  e = ReduceMean <axes = [2]> (c)  y = Concat <axis = 2> (d, e)"""

SUMS = """b = Slice (x, z, h, a2)  c = Slice (x, t, q, a2)  d = ReduceSum (b, a2)  e = ReduceSum (c, a2)
    s = Concat <axis = 2> (d, e)  y = Div (s, SIZES)"""


def text(nodes: str, y: str = "float[2,3,2,4] y", x: str = "float[2,3,5,4] x", head: str = HEAD) -> str:
    return f"{head} g ({x}) => ({y}) {CONSTANTS} {{ {nodes} }}"


def test_slices_and_means_become_the_pool() -> None:
    check_pass(
        RecognizeAdaptiveAvgPool(),
        text(ROWS),
        text("y = segc.AdaptiveAvgPool2d <output_size = [2, 4]> (x)"),
        atol=1e-6,
    )


@pytest.mark.parametrize(
    "nodes",
    [
        ROWS.replace("Slice (x, t, q, a2)", "Slice (x, t, far, a2)"),
        ROWS.replace("<axes = [2]>", "<axes = [-2], keepdims = 1>"),
        SUMS.replace("SIZES", "sizes"),
        """b = Gather <axis = 2> (x, rows)  m = ReduceMean <axes = [3], keepdims = 0> (b)  y = Identity (m)""",
        "b = Slice (x, z, h, a2)  c = Slice (x, t, q, a2)  d = AveragePool <kernel_shape = [3, 1]> (b)"
        "  e = AveragePool <kernel_shape = [3, 1]> (c)  y = Concat <axis = 2> (d, e)",
    ],
)
def test_other_forms_of_the_same_bins_are_recognized_too(nodes: str) -> None:
    extra = "<int64[1] far = {9223372036854775807}, int64[2,3] rows = {0, 1, 2, 2, 3, 4}, int64[1] z"
    graph = check_pass(RecognizeAdaptiveAvgPool(), text(nodes).replace("<int64[1] z", extra), None, atol=1e-5)
    assert graph.nodes[0].op == "AdaptiveAvgPool2d"


def test_a_map_that_is_needed_elsewhere_stays_beside_the_pool() -> None:
    graph = check_pass(
        RecognizeAdaptiveAvgPool(),
        text(ROWS + "  w = Neg (b)", "float[2,3,2,4] y, float[2,3,3,4] w"),
        None,
        atol=1e-6,
    )
    assert sorted(n.op for n in graph.nodes) == ["AdaptiveAvgPool2d", "Neg", "Slice"]


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        (ROWS.replace("Slice (x, z, h, a2)", "Slice (x, z, t, a2)"), "bin (0, 0) averages 2 cells, not the 3"),
        (ROWS.replace("Slice (x, t, q, a2)", "Slice (x, h, q, a2)"), "bin (1, 0) averages 2 cells, not the 3"),
        (ROWS.replace("Slice (x, t, q, a2)", "Slice (x, o, q, a2)"), "bin (1, 0) averages 4 cells, not the 3"),
        (ROWS.replace("Concat <axis = 2> (d, e)", "Concat <axis = 2> (e, d)"), "bin (0, 0) averages 3 cells"),
        (
            ROWS.replace("y = Concat <axis = 2> (d, e)", "s = Mul (d, half)  y = Concat <axis = 2> (s, e)"),
            "bin (0, 0) is divided by 6, not by its 3 cells",
        ),
        (
            SUMS.replace("SIZES", "wrong"),
            "bin (1, 0) is divided by 2, not by its 3 cells",
        ),
    ],
)
def test_one_cell_off_is_no_pool_and_is_named(nodes: str, reason: str) -> None:
    check_untouched(RecognizeAdaptiveAvgPool(), text(nodes), reason)


@pytest.mark.parametrize(
    ("nodes", "y", "x"),
    [
        (ROWS, "float[2,3,2,W] y", "float[2,3,5,W] x"),
        (ROWS.replace("(x, t, q, a2)", "(w, t, q, a2)"), "float[2,3,2,4] y", "float[2,3,5,4] x, float[2,3,5,4] w"),
        (
            "b = Slice (x, z, o, a1)  c = Slice (x, o, h, a1)  d = ReduceMean <axes = [1]> (c)"
            "  y = Concat <axis = 1> (b, d)",
            "float[2,2,5,4] y",
            "float[2,3,5,4] x",
        ),
        (
            "b = Slice (x, z, t, a2)  c = Slice (x, t, q, a2)  y = Concat <axis = 2> (c, b)",
            "float[2,3,5,4] y",
            "float[2,3,5,4] x",
        ),
        ("y = AveragePool <kernel_shape = [5, 2], strides = [5, 2]> (x)", "float[2,3,1,2] y", "float[2,3,5,4] x"),
        (ROWS, "float[2,3,2,2147483647] y", "float[2,3,5,2147483647] x"),  # too large to follow cell by cell
        (
            ROWS.replace("ReduceMean <axes = [2]> (b)", "ReduceMax <axes = [2]> (b)"),
            "float[2,3,2,4] y",
            "float[2,3,5,4] x",
        ),
    ],
)
def test_what_is_no_pool_at_all_is_not_worth_a_word(nodes: str, y: str, x: str) -> None:
    check_untouched(RecognizeAdaptiveAvgPool(), text(nodes, y, x), None)


@settings(max_examples=60, deadline=None)
@given(*[st.integers(1, 13)] * 2, *[st.integers(1, 6)] * 2)
def test_what_was_lowered_to_slices_is_recognised_again(height: int, width: int, rows: int, cols: int) -> None:
    pooled = f"{HEAD20} g (float[2,3,{height},{width}] x) => (float[2,3,{rows},{cols}] y)" + (
        f" {{ y = segc.AdaptiveAvgPool2d <output_size = [{rows}, {cols}]> (x) }}"
    )
    graph, lowered = graph_of(pooled), graph_of(pooled)
    apply(LowerAdaptiveAvgPool("slices"), lowered)
    assert not any(n.domain for n in lowered.nodes)
    check_numbers(graph, lowered, atol=2e-6)
    binned = any(b not in (1, s) for s, b in ((height, rows), (width, cols)))
    assert (apply(RecognizeAdaptiveAvgPool(), lowered).changes > 0) == binned
    if binned:
        assert text_of(lowered) == text_of(graph)


@settings(max_examples=60, deadline=None)
@given(st.integers(3, 12), st.integers(2, 5), st.data())
def test_one_bound_that_is_off_by_one_is_never_accepted(side: int, bins: int, data: st.DataObject) -> None:
    head = f"{HEAD} g (float[1,1,{side},1] x) => (float[1,1,{bins},1] y)"
    graph = graph_of(head + f" {{ y = segc.AdaptiveAvgPool2d <output_size = [{bins}, 1]> (x) }}")
    apply(LowerAdaptiveAvgPool("slices"), graph)
    edges = [n.inputs[at] for n in graph.nodes if n.op == "Slice" for at in (1, 2)]
    if not edges:
        return
    edge = data.draw(st.sampled_from(range(len(edges))))
    by = data.draw(st.sampled_from([-1, 1]))
    value = int(edges[edge].values[0]) + by
    if not 0 <= value <= side:
        return
    edges[edge].values = np.array([value])
    assert RecognizeAdaptiveAvgPool().run(graph).changes == 0


TORCH_CASES = [
    (6, (13, 17)),
    ((2, 3), (13, 17)),
    ((3, None), (13, 17)),
    ((3, 2), (12, 17)),
    ((6, 1), (4, 7)),
    (4, (9, 4)),
]


@pytest.mark.parametrize(("size", "side"), TORCH_CASES)
def test_what_the_torch_exporter_unrolls_is_put_together_again(
    size: int | tuple[int | None, int | None], side: tuple[int, int]
) -> None:
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(size)).eval()
        program = torch.onnx.export(module, (torch.randn(2, 3, *side),), dynamo=True, opset_version=20, verbose=False)
    before, graph = (ir.from_model(program.model_proto) for _ in range(2))
    for each in (before, graph):
        ir.infer_shapes(each)
    stages.chosen("p", [RecognizeAdaptiveAvgPool()]).run(graph)
    assert [n.op for n in graph.nodes] == ["Relu", "AdaptiveAvgPool2d"]
    check_numbers(before, graph, atol=1e-6)
