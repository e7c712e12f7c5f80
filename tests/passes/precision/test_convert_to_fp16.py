"""Half precision in the graph's types: where the casts stand, and what stays in float32."""

from __future__ import annotations

import numpy as np
import pytest

from segc.graph.analysis.depth import depths
from segc.passes.precision.convert_to_fp16 import ConvertToFp16
from segc.passes.support import evaluate
from segc.passes.support.dtypes import F16
from tests.helpers.checks import HEAD20, apply, check_pass, check_untouched, graph_of


def test_casts_stand_at_the_borders_only_and_constants_are_rounded() -> None:
    check_pass(
        ConvertToFp16(),
        atol=2e-2,
        before=HEAD20
        + """g (float[N,3] x) => (float[N,3] y) <float[3] a = {0.1, 2, 3}, float[3] b = {1, 0, 1}>
        { t = Mul (x, a)  u = Relu (t)  y = Add (u, b) }""",
        after=HEAD20
        + """g (float[N,3] x) => (float[N,3] y) <float16[3] a_half = {11878, 16384, 16896},
        float16[3] b_half = {15360, 0, 15360}> {
            x_half = Cast <to = 10> (x)  t = Mul (x_half, a_half)  u = Relu (t)
            y_half = Add (u, b_half)  y = Cast <to = 1> (y_half)
        }""",
        changes=3,
    )


def test_a_tensor_that_both_precisions_read_is_cast_once() -> None:
    graph = check_pass(
        ConvertToFp16(),
        HEAD20
        + """g (float[N,3] x) => (float[N,3] y, float[N,3] z)
        { a = Relu (x)  b = Softmax (a)  c = LogSoftmax (a)  y = Relu (b)  z = Relu (c) }""",
        None,
        atol=1e-3,
        changes=3,
    )
    casts = [n for n in graph.nodes if n.op == "Cast"]
    assert [c.outputs[0].name for c in casts] == ["x_half", "a_single", "b_half", "y", "c_half", "z"]


@pytest.mark.parametrize(
    ("body", "single", "reason"),
    [
        ("s = MatMul (x, w)  t = Mul (s, k)  p = Softmax (t)  y = MatMul (p, w)", "MatMul Mul Softmax", "softmax sums"),
        ("d = Sub (x, k)  q = Mul (d, d)  r = ReduceSum (q)  y = Relu (r)", "Sub Mul ReduceSum", "sums and statistics"),
        ("a = Relu (x)  r = Sqrt (a)  y = Neg (r)", "Sqrt", "an epsilon would round to zero"),
        ("a = Relu (x)  b = Neg (x)  d = Div (a, b)  y = Relu (d)", "Div", "an epsilon would round to zero"),
        ("a = Relu (x)  m = Greater (a, k)  n = Where (m, x, a)  y = Neg (n)", "Greater", "compared values"),
        ("a = Relu (x)  b = Add (a, big)  y = Relu (b)", "Add", "'big' exceeds float16's range"),
        ("a = Relu (x)  b = Add (a, tiny)  y = Relu (b)", "Add", "'tiny' would round to zero"),
        ("a = Relu (x)  b = Mish (a)  y = Relu (b)", "", ""),
    ],
)
def test_what_half_cannot_carry_stays_and_says_why(body: str, single: str, reason: str) -> None:
    text = (
        HEAD20
        + "g (float[4,4] x) => (float[A,B] y)"
        + " <float[4,4] w = {1,2,0,1, 0,1,1,0, 1,0,2,0, 0,1,0,1}, float k = {0.5}, float big = {1e6}, "
        + "float tiny = {1e-9}>"
        + f"{{ {body} }}"
    )
    graph = graph_of(text)
    result = apply(ConvertToFp16(), graph)
    kept = [n.op for n in graph.nodes if n.op != "Cast" and any(t.dtype == np.float32 for t in n.inputs)]
    assert kept == single.split()
    assert all(reason in s.reason for s in result.skips) and bool(result.skips) == bool(single)
    want, got = (evaluate.outputs(g, {"x": np.eye(4, dtype=np.float32)})["y"] for g in (graph_of(text), graph))
    np.testing.assert_allclose(got, want, rtol=2e-3)


def test_coordinates_stay_although_data_around_them_does_not() -> None:
    graph = check_pass(
        ConvertToFp16(),
        HEAD20
        + """g (float[1,2,H,W] x, float[1,A,B,2] grid) => (float[1,2,A,B] y) <float one = {1}, float two = {2},
        int64 at = {2}> {
            s = Shape (x)  h = Gather (s, at)  f = Cast <to = 1> (h)  g = Mul (f, two)  r = Div (g, g)
            a = Relu (x)  b = Mul (a, r)  c = GridSample (b, grid)  y = Relu (c)
        }""",
        None,
        atol=4e-3,
        changes=3,
    )
    single = {n.op for n in graph.nodes if any(t.dtype == np.float32 for t in n.inputs)} - {"Cast", "Shape"}
    assert single == {"Mul", "Div", "GridSample"}  # this Mul is that of the sizes
    assert next(n for n in graph.nodes if n.op == "Relu").inputs[0].dtype == F16


def test_the_scales_of_a_resize_are_no_data() -> None:
    graph = check_pass(
        ConvertToFp16(),
        HEAD20
        + """g (float[1,1,3,4] x) => (float[1,1,6,8] y) <float[4] s = {1, 1, 2, 2}>
        { a = Relu (x)  b = Resize <mode = "linear"> (a, , s)  y = Neg (b) }""",
        None,
        atol=4e-3,
        changes=3,
    )
    resize = next(n for n in graph.nodes if n.op == "Resize")
    assert [t.dtype for t in resize.inputs if not t.is_empty()] == [F16, np.float32]


def test_the_logits_that_are_resized_last_stay() -> None:
    graph = check_pass(
        ConvertToFp16(),
        HEAD20
        + """g (float[1,1,3,4] x) => (float[1,1,6,8] y) <float[4] s = {1, 1, 2, 2}>
        { a = Relu (x)  y = Resize <mode = "linear"> (a, , s) }""",
        None,
        atol=4e-3,
    )
    assert next(n for n in graph.nodes if n.op == "Resize").inputs[0].dtype == np.float32


def test_control_flow_and_what_it_reads_stay() -> None:
    text = (
        HEAD20
        + """g (float[2,3] x, bool c) => (float[2,3] y) {
        a = Relu (x)  b = Neg (x)
        t = If (c) <then_branch = f () => (float[2,3] u) { u = Abs (a) }, else_branch = h () => (float[2,3] v)
        { v = Neg (a) }>
        d = Add (b, b)  y = Add (t, d)
    }"""
    )
    graph, plain = graph_of(text), graph_of(text)
    assert any("control flow" in s.reason for s in apply(ConvertToFp16(), graph).skips)
    assert next(n for n in graph.nodes if n.op == "Relu").inputs[0].dtype == np.float32  # a branch reads its result
    feeds = {"x": np.array([[1.5, -2, 3], [0, 1, -1]], np.float32), "c": np.array(True)}
    np.testing.assert_allclose(evaluate.outputs(graph, feeds)["y"], evaluate.outputs(plain, feeds)["y"], atol=1e-3)


def test_the_first_layers_stay_where_asked() -> None:
    text = HEAD20 + "g (float[N,3] x) => (float[N,3] y) { a = Relu (x)  b = Neg (a)  c = Abs (b)  y = Neg (c) }"
    graph = graph_of(text)
    assert list(depths(graph).values()) == [1, 2, 3, 4]
    result = apply(ConvertToFp16(2), graph)
    assert (
        result.changes == 2 and [s.reason.split(":")[0] for s in result.skips] == ["early layers stay in float32"] * 2
    )
    assert next(n for n in graph.nodes if n.op == "Abs").inputs[0].dtype == F16
    assert apply(ConvertToFp16(2), graph).changes == 0
    check_untouched(ConvertToFp16(9), text, "early layers")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("float[N,3] x) => (float[N,3] y) { y = Softmax (x) }", "softmax sums"),
        ("int64[N,3] x) => (int64[N,3] y) { y = Add (x, x) }", None),
        ("float[N,3] x) => (int64[1] y) { s = Shape (x)  y = Gather (s, s) }", None),
    ],
)
def test_graphs_without_floats_to_convert_are_left_alone(body: str, reason: str | None) -> None:
    check_untouched(ConvertToFp16(), HEAD20 + f"g ({body}", reason)


@pytest.mark.parametrize(
    ("body", "half"),
    [
        ("a = Mul (x, none)  y = Add (a, x)", "Mul Add"),  # a scalar of 0 loses nothing
        ("a = Max (x, low)  y = Relu (a)", "Max Relu"),  # infinity is in float16's range
        ("a = Mul (x, small)  y = Relu (a)", "Mul Relu"),  # a weight that vanishes among others
        ("a = Div (x, two)  y = Relu (a)", "Div Relu"),  # a constant divisor needs no epsilon
        ("a = Slice (x, start, end, axis)  y = Relu (a)", "Slice Relu"),  # integers are not rounded
        ("s = Softmax (x)  a = MatMul (s, w)  y = Softmax (a)", ""),  # scores of a softmax
        ("s = Softmax (x)  a = Relu (s)  y = Softmax (a)", "Relu"),  # work between two softmaxes
        ("s = Softmax (x)  a = Sigmoid (s)  b = Relu (a)  c = Sqrt (b)  y = Relu (c)", "Sigmoid Relu Relu"),
    ],
)
def test_what_half_can_carry_is_half(body: str, half: str) -> None:
    constants = "float none = {0}, float low = {LOW}, float[4] small = {1e-9, 1, 1, 1}, float two = {2}"
    integers = "int64[1] start = {0}, int64[1] end = {9223372036854775807}, int64[1] axis = {0}"
    weights = "float[4,4] w = {1,2,0,1, 0,1,1,0, 1,0,2,0, 0,1,0,1}"
    text = f"g (float[4,4] x) => (float[4,4] y) <{constants}, {integers}, {weights}> {{ {body} }}"
    graph = graph_of(HEAD20 + text.replace("{LOW}", "{-1}"))
    for tensor in graph.tensors().values():
        if tensor.name == "low":
            tensor.values = np.array(-np.inf, np.float32)
    apply(ConvertToFp16(), graph)
    found = [n.op for n in graph.nodes if n.op != "Cast" and n.outputs[0].dtype == F16]
    assert found == half.split()


def test_integers_become_half_at_once_and_are_made_of_float32() -> None:
    text = "g (float[4] x) => (float[4] y) { a = Relu (x)  b = Cast <to = 7> (a)  c = Cast <to = 1> (b)  y = Neg (c) }"
    graph = graph_of(HEAD20 + text)
    assert apply(ConvertToFp16(), graph).changes == 3
    casts = [(n.inputs[0].name, n.attrs["to"]) for n in graph.nodes if n.op == "Cast"]
    assert casts == [("x", 10), ("a", 1), ("a_single", 7), ("b", 10), ("y_half", 1)]
    x = np.array([1.75, -3, 2.25, 0.5], np.float32)
    np.testing.assert_array_equal(evaluate.outputs(graph, {"x": x})["y"], [-1, 0, -2, 0])
    assert apply(ConvertToFp16(), graph).changes == 0


def test_outputs_of_other_types_keep_them() -> None:
    text = """g (float[1,1,4,4] x) => (float[1,1,2,2] y, int64[1,1,2,2] at)
        { a, at = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)  y = Relu (a) }"""
    graph = graph_of(HEAD20 + text)
    assert apply(ConvertToFp16(), graph).changes == 2
    assert {t.name: np.dtype(t.dtype) for t in graph.outputs} == {"y": np.float32, "at": np.int64}
    x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    np.testing.assert_array_equal(evaluate.outputs(graph, {"x": x})["at"].ravel(), [5, 7, 13, 15])


def test_an_output_that_is_read_in_float32_is_cast_once() -> None:
    text = "g (float[2,4] x) => (float[2,4] a, float[2,4] y) { a = Relu (x)  y = Softmax (a) }"
    graph = graph_of(HEAD20 + text)
    apply(ConvertToFp16(), graph)
    casts = [(n.inputs[0].name, n.outputs[0].name) for n in graph.nodes if n.op == "Cast"]
    assert casts == [("x", "x_half"), ("a_half", "a")]


def test_an_op_without_a_form_in_half_and_one_of_another_library_stay() -> None:
    text = "g (float[4] x) => (uint8[4] y) { a = Relu (x)  y, s, z = DynamicQuantizeLinear (a) }"
    graph = graph_of(HEAD20 + text)
    result = apply(ConvertToFp16(), graph)
    assert "DynamicQuantizeLinear has no float16 form" in [skip.reason for skip in result.skips]
    graph = graph_of(HEAD20 + "g (float[4] x) => (float[4] y) { a = Relu (x)  b = Neg (a)  y = Abs (b) }")
    graph.nodes[1].domain = "other"
    ConvertToFp16().run(graph)
    (foreign,) = [n for n in graph.nodes if n.domain == "other"]
    assert {np.dtype(t.dtype) for t in [*foreign.inputs, *foreign.outputs]} == {np.dtype(np.float32)}


def test_a_resize_by_computed_scales_is_converted_once() -> None:
    text = """g (float[1,1,4,4] x, float[4] s) => (float[1,1,A,B] y) {
        a = Relu (x)  r = Resize <mode = "nearest"> (a, , s)  t = Relu (r)  y = Neg (t) }"""
    graph = graph_of(HEAD20 + text)
    assert apply(ConvertToFp16(), graph).changes > 0
    assert apply(ConvertToFp16(), graph).changes == 0
