from __future__ import annotations

import pytest
from checks import HEAD, HEAD20, check_pass, check_untouched, graph_of, text_of

from segc.passes import SpecializeShapes
from segc.passes.specialize_shapes import image_input

UPSAMPLE = """g (float[N,3,H,W] x) => (float[N,3,A,B] y)
    <int64[1] two = {2}, int64[1] four = {4}, int64 at = {2}, int64 half = {2},
    int64[1] last = {3}, int64[1] zero = {0}> {
        small = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)
        whole = Shape (x)
        height = Gather (whole, at)
        double = Mul (height, half)
        same = Div (double, half)
        tall = Unsqueeze (same, zero)
        wide = Slice (whole, last, four)
        outer = Slice (whole, zero, two)
        sizes = Concat <axis = 0> (outer, tall, wide)
        y = Resize <mode = "linear"> (small, , , sizes)
    }"""


def test_a_bound_graph_keeps_no_shape_arithmetic() -> None:
    graph = check_pass(
        SpecializeShapes(1, 6, 10),
        HEAD + UPSAMPLE,
        HEAD
        + """g (float[1,3,6,10] x) => (float[1,3,6,10] y) <int64[4] sizes = {1, 3, 6, 10}> {
            small = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)
            y = Resize <mode = "linear"> (small, , , sizes)
        }""",
    )
    assert SpecializeShapes(1, 6, 10).gives == {"static-shapes"}
    assert not [n for n in graph.nodes if n.op == "Shape"]


def test_a_partial_binding_folds_what_it_decides() -> None:
    graph = check_pass(SpecializeShapes(height=6, width=10), HEAD + UPSAMPLE, None)
    assert sorted(n.op for n in graph.nodes) == ["Concat", "MaxPool", "Resize", "Shape", "Slice"]
    assert SpecializeShapes(height=6, width=10).gives == frozenset()


def test_shape_with_start_and_end_is_understood() -> None:
    check_pass(
        SpecializeShapes(width=7),
        HEAD
        + """g (float[N,3,H,W] x) => (float[N,3,H,W] y)
        { s = Shape <start = 3> (x)  c = Cast <to = 1> (s)  y = Mul (x, c) }""",
        HEAD + "g (float[N,3,H,7] x) => (float[N,3,H,7] y) <float[1] c = {7}> { y = Mul (x, c) }",
    )


def test_range_and_expand_of_known_sizes_become_constants() -> None:
    check_pass(
        SpecializeShapes(2, 1, 3),
        HEAD20
        + """g (float[N,1,H,W] x) => (float[N,1,H,W] y) <int64 from = {0}, int64 by = {1}, int64 at = {3}> {
            s = Shape (x)  w = Gather (s, at)  r = Range (from, w, by)  f = Cast <to = 1> (r)  y = Add (x, f)
        }""",
        HEAD20 + "g (float[2,1,1,3] x) => (float[2,1,1,3] y) <float[3] f = {0, 1, 2}> { y = Add (x, f) }",
    )


def test_a_static_graph_gets_its_arithmetic_folded_without_binding_anything() -> None:
    check_pass(
        SpecializeShapes(),
        HEAD
        + """g (float[1,3,4,6] x) => (float[72] y) <int64[1] axes = {0}>
        { s = Size (x)  u = Unsqueeze (s, axes)  y = Reshape (x, u) }""",
        HEAD + "g (float[1,3,4,6] x) => (float[72] y) <int64[1] u = {72}> { y = Reshape (x, u) }",
    )


def test_values_that_depend_on_data_stay() -> None:
    graph = graph_of(HEAD + "g (float[N,1,H,W] x) => (int64[4,K] y) { y = NonZero (x) }")
    SpecializeShapes(1, 2, 2).run(graph)
    assert [n.op for n in graph.nodes] == ["NonZero"] and graph.outputs[0].shape[0] == 4


def test_an_output_that_is_a_constant_stays_computed_and_says_why() -> None:
    text = HEAD + "g (float[1,3,4,6] x) => (int64[4] s, float[1,3,4,6] y) { s = Shape (x)  y = Relu (x) }"
    check_untouched(SpecializeShapes(1, 4, 6), text, "'s' is an output and its value a constant")


def test_a_static_graph_of_the_wanted_size_is_left_alone() -> None:
    text = HEAD + "g (float[1,3,4,6] x) => (float[1,3,4,6] y) { y = Relu (x) }"
    check_untouched(SpecializeShapes(1, 4, 6), text, None)


@pytest.mark.parametrize(
    ("shape", "step", "message"),
    [
        ("1,3,512,W", (1, 256, 256), "height 256 disagrees with input 'x', whose height is fixed at 512"),
        ("4,3,H,W", (1, 256, 256), "batch 1 disagrees with input 'x', whose batch is fixed at 4"),
        ("N,3,S,S", (1, 256, 512), "width 512 disagrees with height 256: both are 'S' in input 'x'"),
    ],
)
def test_a_size_that_disagrees_is_refused_and_named(shape: str, step: tuple[int, int, int], message: str) -> None:
    graph = graph_of(HEAD + f"g (float[{shape}] x) => (float[{shape}] y) {{ y = Relu (x) }}")
    printed = text_of(graph)
    with pytest.raises(ValueError, match=message):
        SpecializeShapes(*step).run(graph)
    assert text_of(graph) == printed


@pytest.mark.parametrize("size", [0, -1])
def test_sizes_below_one_are_refused_before_a_model_is_seen(size: int) -> None:
    with pytest.raises(ValueError, match=f"height must be at least 1, not {size}"):
        SpecializeShapes(1, size, 8)


def test_a_graph_without_an_image_input_is_refused() -> None:
    graph = graph_of(HEAD + "g (float[3,H] x) => (float[3,H] y) { y = Relu (x) }")
    with pytest.raises(ValueError, match="no input with 4 dimensions"):
        image_input(graph)
