from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from segc.passes.cleanup.remove_identities import RemoveIdentities
from segc.passes.support.dtypes import holds
from tests.helpers.checks import HEAD, apply, check_pass, check_untouched, graph_of

CONSTANTS = """<int64[4] shape = {2, 3, 4, 5}, int64[8] pads = {0, 0, 0, 0, 0, 0, 0, 0}, int64[2] from = {0, 0},
    int64[2] to = {4, 9223372036854775807}, int64[2] axes = {2, 3}, int64[2] steps = {1, 1}, int64[2] mirror = {1, -1},
    int64[8] pad1 = {0, 0, 1, 0, 0, 0, 0, 0}, int64[2] three = {3, 5}, float zero = {0}, float one = {1},
    float[1,1] ones = {1}, float[1,1,1,1,1] five = {1}, bool yes = {1}, float[4] same = {1, 1, 1, 1},
    float[4] nearly = {1, 1, 1.1, 1}, int64[4] free = {2, 3, -1, 5},
    int64[1] one_axis = {1}>"""


def around(node: str) -> str:
    """Relu, the node, Relu: so that neither end of the node is an output of the graph."""
    return HEAD + f"g (float[2,3,4,5] x) => (float[2,3,4,5] y) {CONSTANTS} {{ a = Relu (x)  {node}  y = Relu (b) }}"


PLAIN = HEAD + "g (float[2,3,4,5] x) => (float[2,3,4,5] y) { a = Relu (x)  y = Relu (a) }"


@pytest.mark.parametrize(
    "node",
    [
        "b = Identity (a)",
        "b = Dropout (a)",
        "b = Cast <to = 1> (a)",
        "c = Cast <to = 11> (a)  b = Cast <to = 1> (c)",
        "b = Concat <axis = 1> (a)",
        "b = Transpose <perm = [0, 1, 2, 3]> (a)",
        "b = Pad (a, pads)",
        "b = Slice (a, from, to, axes)",
        "b = Slice (a, from, to, axes, steps)",
        "b = Reshape (a, shape)",
        "b = Reshape (a, free)",
        "b = Expand (a, shape)",
        'b = Resize <mode = "cubic"> (a, , , shape)',
        'b = Resize <mode = "linear", coordinate_transformation_mode = "align_corners"> (a, , same)',
        "b = Add (a, zero)",
        "b = Add (zero, a)",
        "b = Sub (a, zero)",
        "b = Mul (a, ones)",
        "b = Div (a, one)",
        "c = Unsqueeze (a, one_axis)  b = ReduceSum <keepdims = 0> (c, one_axis)",
        "c = Unsqueeze (a, one_axis)  b = ReduceMax <keepdims = 0, axes = [-4]> (c)",
    ],
)
def test_a_node_that_returns_its_input_goes(node: str) -> None:
    check_pass(RemoveIdentities(), around(node), PLAIN)


@pytest.mark.parametrize(
    "node",
    [
        "b, m = Dropout (a, , yes)",
        "b = Slice (a, from, to, axes, mirror)",
        "c = Slice (a, from, three, axes)  b = Pad (c, pad1)",
        "b = Sub (zero, a)",
        "b = Div (one, a)",
        "b = Mul (a, zero)",
        'b = Resize <mode = "linear"> (a, , nearly)',
        'b = Resize <mode = "linear", coordinate_transformation_mode = "tf_half_pixel_for_nn"> (a, , , shape)',
        "c = Cast <to = 6> (a)  b = Cast <to = 1> (c)",
        "c = Transpose <perm = [1, 0, 2, 3]> (a)  b = Reshape (c, shape)",
    ],
)
def test_a_node_that_only_looks_like_one_stays(node: str) -> None:
    check_untouched(RemoveIdentities(), around(node), None)


def test_a_constant_that_broadcasts_stays() -> None:
    text = HEAD + f"g (float[2,3,4,5] x) => (float[1,2,3,4,5] y) {CONSTANTS} {{ y = Mul (x, five) }}"
    check_untouched(RemoveIdentities(), text, None)


def test_a_dynamic_reshape_goes_when_the_element_count_decides_the_size() -> None:
    check_pass(
        RemoveIdentities(),
        HEAD
        + """g (float[N,3,4] x) => (float[N,3,4] y) <int64[3] s = {-1, 3, 4}>
        { a = Relu (x)  b = Reshape (a, s)  y = Relu (b) }""",
        HEAD + "g (float[N,3,4] x) => (float[N,3,4] y) { a = Relu (x)  y = Relu (a) }",
    )


def test_a_resize_to_computed_sizes_goes_when_they_have_the_names_of_the_inputs() -> None:
    check_pass(
        RemoveIdentities(),
        HEAD
        + """g (float[N,3,H,W] x) => (float[N,3,H,W] y) <float[N,3,H,W] b>
        { a = Relu (x)  s = Shape (x)  b = Resize <mode = "cubic"> (a, , , s)  y = Relu (b) }""",
        HEAD + "g (float[N,3,H,W] x) => (float[N,3,H,W] y) { a = Relu (x)  y = Relu (a) }",
    )


@pytest.mark.parametrize("declared", ["", "<float[N,3,K,L] b>", "<float[N,3,H,L] b>"])
def test_a_resize_to_sizes_with_other_names_or_none_stays(declared: str) -> None:
    text = f"""g (float[N,3,H,W] x, float[N,3,K,L] z) => (float[N,3,K,L] y) {declared}
        {{ a = Relu (x)  s = Shape (z)  b = Resize <mode = "linear"> (a, , , s)  y = Add (b, z) }}"""
    graph = graph_of(HEAD + text)
    assert apply(RemoveIdentities(), graph).changes == 0
    assert sum(node.op == "Resize" for node in graph.nodes) == 1


def test_an_output_keeps_its_name() -> None:
    check_pass(
        RemoveIdentities(),
        HEAD + "g (float[N] x) => (float[N] y, float[N] z) { a = Relu (x)  y = Identity (a)  z = Neg (a) }",
        HEAD + "g (float[N] x) => (float[N] y, float[N] z) { y = Relu (x)  z = Neg (y) }",
    )


def test_an_output_that_copies_an_input_stays_and_says_why() -> None:
    text = HEAD + "g (float[N] x) => (float[N] y) { y = Identity (x) }"
    check_untouched(RemoveIdentities(), text, "'y' is an output, and its value would be an input")


def test_an_output_that_copies_an_output_stays_and_says_why() -> None:
    text = HEAD + "g (float[N] x) => (float[N] a, float[N] y) { a = Relu (x)  y = Identity (a) }"
    check_untouched(RemoveIdentities(), text, "both outputs")


def test_a_narrow_map_that_was_widened_and_narrowed_again_is_left_narrow() -> None:
    check_pass(
        RemoveIdentities(),
        HEAD
        + "g (uint8[N] x) => (uint8[N] y) { a = Max (x)  w = Cast <to = 7> (a)  n = Cast <to = 2> (w)  y = Max (n) }",
        HEAD + "g (uint8[N] x) => (uint8[N] y) { a = Max (x)  y = Max (a) }",
    )


@pytest.mark.parametrize(
    ("wide", "narrow", "expected"),
    [("int64", "uint8", True), ("int32", "int64", False), ("float32", "float16", True), ("float32", "int32", False)],
)
def test_holds_is_true_only_where_every_value_survives(wide: str, narrow: str, expected: bool) -> None:
    assert holds(np.dtype(wide), np.dtype(narrow)) is expected


def test_a_mask_in_use_keeps_the_dropout() -> None:
    x, y = gs.Variable("x", np.float32, (2,)), gs.Variable("y", np.float32, (2,))
    m, z = gs.Variable("m", np.bool_, (2,)), gs.Variable("z", np.bool_, (2,))
    nodes = [gs.Node("Dropout", "d", {}, [x], [y, m]), gs.Node("Not", "n", {}, [m], [z])]
    assert RemoveIdentities().run(gs.Graph(nodes, [x], [y, z], opset=17)).changes == 0


@pytest.mark.parametrize(
    "node", ["b = Add (a, zeros)", "b = Add (zeros, a)", "b = Mul (a, units)", "b = Div (a, units)"]
)
def test_an_empty_bias_goes(node: str) -> None:
    text = around(node).replace(
        "<int64[4] shape", "<float[5] zeros = {0, 0, 0, 0, 0}, float[3,1,1] units = {1, 1, 1}, int64[4] shape"
    )
    check_pass(RemoveIdentities(), text, PLAIN)


@pytest.mark.parametrize("node", ["b = Add (a, c)", "b = Mul (a, d)"])
def test_an_array_that_is_not_all_neutral_or_broadcasts_stays(node: str) -> None:
    text = (
        HEAD
        + f"""g (float[2,1,4,5] x) => (float[2,K,4,5] y)
    <float[5] c = {{0, 0, 0, 1, 0}}, float[3,1,1] d = {{1, 1, 1}}> {{ a = Relu (x)  {node}  y = Relu (b) }}"""
    )
    check_untouched(RemoveIdentities(), text, None)


def sized(node: str) -> str:
    return HEAD + f"g (float[2,1,4,1] x) => (float[2,1,4,1] y) {{ a = Relu (x)  {node}  y = Relu (b) }}"


@pytest.mark.parametrize("op", ["ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd"])
def test_a_reduction_over_kept_axes_of_size_one_goes(op: str) -> None:
    after = HEAD + "g (float[2,1,4,1] x) => (float[2,1,4,1] y) { a = Relu (x)  y = Relu (a) }"
    check_pass(RemoveIdentities(), sized(f"b = {op} <axes = [1, -1]> (a)"), after)


@pytest.mark.parametrize(
    "node",
    [
        "c = ReduceMean <axes = [1, 2]> (a)  b = Add (c, a)",  # an axis of size 4
        "c = ReduceMean (a)  b = Add (c, a)",  # all axes
        "c = ReduceL1 <axes = [1]> (a)  b = Add (c, a)",  # a magnitude
        "c = ReduceMean <axes = [1], keepdims = 0> (a)  b = Unsqueeze (c, one_axis)",  # no Unsqueeze before it
    ],
)
def test_other_reductions_stay(node: str) -> None:
    text = sized(node).replace("{ a", "<int64[1] one_axis = {1}> { a", 1)
    check_untouched(RemoveIdentities(), text, None)


def test_an_unsqueeze_of_another_axis_of_size_one_stays() -> None:
    body = "c = Unsqueeze (a, axis)  b = ReduceMean <axes = [2], keepdims = 0> (c)"
    check_untouched(RemoveIdentities(), sized(body).replace("{ a", "<int64[1] axis = {0}> { a", 1), None)
