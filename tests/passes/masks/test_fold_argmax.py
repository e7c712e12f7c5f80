from __future__ import annotations

import pytest

from segc.passes.masks.fold_argmax import FoldArgMax
from tests.helpers.checks import HEAD, HEAD20, check_pass, check_untouched, graph_of

CONSTANTS = """<float c = {2.5}, float minus = {-1}, float nil = {0}, float[3] shifts = {1, 2, 3},
    float[3,1,1] classes = {1, 2, 3}, float[1] shift = {4}, int64[2] from = {1, 0}, int64[2] to = {4, 3},
    int64[2] sides = {2, 3}, int64[2] channel = {1, 2}, int64[4] big = {1, 3, 12, 14}, int64[4] more = {1, 5, 6, 7},
    float[4] twice = {1, 1, 2, 2}, float[4] odd = {1, 1.2, 2, 2}, int64[2] size = {12, 14},
    int64[4] from4 = {0, 0, 1, 0}, int64[4] to4 = {1, 3, 4, 3}, float[8] roi = {0, 0, 0, 0, 1, 1, 1, 1}>"""


def before(nodes: str, head: str = HEAD, out: str = "int64[1,1,H,W]", argmax: str = "axis = 1") -> str:
    return head + f"g (float[1,3,6,7] x) => ({out} y) {CONSTANTS} {{ {nodes}  y = ArgMax <{argmax}> (b) }}"


PLAIN = HEAD + "g (float[1,3,6,7] x) => (int64[1,1,6,7] y) { y = ArgMax <axis = 1> (x) }"


@pytest.mark.parametrize(
    "node",
    [
        "b = Softmax <axis = 1> (x)",
        "b = Softmax <axis = -3> (x)",
        "b = LogSoftmax <axis = 1> (x)",
        "b = Mul (x, c)",
        "b = Mul (c, x)",
        "b = Div (x, c)",
        "b = Add (x, shifts7)",
        "b = Sub (x, shift)",
        "b = Cast <to = 11> (x)",
        "b = LeakyRelu (x)",
        "b = Elu (x)",
        "b = Selu (x)",
        "b = Sigmoid (x)",
        "a = Sigmoid (x)  b = Mul (a, c)",
    ],
)
def test_what_cannot_change_the_winner_goes(node: str) -> None:
    text = (
        before(node, out="int64[1,1,6,7]")
        .replace("shifts7", "s7")
        .replace("<float c", "<float[7] s7 = {1, 2, 3, 4, 5, 6, 7}, float c")
    )
    check_pass(FoldArgMax(), text, PLAIN, changes=2 if "a =" in node else 1)


def test_a_shift_that_is_computed_and_shared_by_the_classes_goes() -> None:
    graph = check_pass(
        FoldArgMax(), before("m = ReduceMax <axes = [1]> (x)  b = Sub (x, m)", out="int64[1,1,6,7]"), None
    )
    assert [n.op for n in graph.nodes] == ["ArgMax"]


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        ("b = Softmax <axis = 2> (x)", "Softmax is over axis 2, ArgMax over 1"),
        ("b = Mul (x, minus)", "Mul by -1 is not strictly increasing"),
        ("b = Mul (x, nil)", "Mul by 0 is not strictly increasing"),
        ("b = Div (c, x)", "something other than a positive scalar constant"),
        ("b = Mul (x, classes)", "something other than a positive scalar constant"),
        ("b = Mul (x, x)", "something other than a positive scalar constant"),
        ("b = Add (x, classes)", "not a shift by the same value for all classes of a pixel"),
        ("b = Sub (shift, x)", "not a shift by the same value for all classes of a pixel"),
        ("b = Relu (x)", "Relu is constant somewhere"),
        ("b = Clip (x, nil, c)", "Clip is constant somewhere"),
        ("b = LeakyRelu <alpha = 0.0> (x)", "LeakyRelu with alpha 0.0 is not strictly increasing"),
        ("b = Selu <gamma = -1.0> (x)", "Selu with these coefficients is not strictly increasing"),
        ("b = Selu <alpha = 0.0> (x)", "Selu with these coefficients is not strictly increasing"),
        ("b = Cast <to = 10> (x)", "Cast to a narrower type makes ties"),
        ('b = Resize <mode = "cubic"> (x, , , big)', "Resize is cubic"),
        (
            'b = Resize <mode = "linear", keep_aspect_ratio_policy = "not_larger"> (x, , , big)',
            "keeps the aspect ratio",
        ),
        ('b = Resize <mode = "linear", antialias = 1> (x, , , big)', "antialias"),
        ('b = Resize <mode = "nearest", axes = [1, 2]> (x, , , size)', "the Resize is along the class axis"),
        ('b = Resize <mode = "nearest"> (x, , odd)', "not 1 for the class axis"),
        ('b = Resize <mode = "linear", axes = [3, 2]> (x, , , size)', "the Resize is along axes [3, 2]"),
        (
            'b = Resize <mode = "nearest", coordinate_transformation_mode = "tf_crop_and_resize"> (x, roi, , big)',
            "tf_crop_and_resize may read beyond the map's edge",
        ),
        ("b = Slice (x, from4, to4)", "the axes of the Slice are not constant"),
        ('b = Resize <mode = "nearest"> (x, , , more)', "may change the number of classes"),
        ('b = Resize <mode = "linear"> (x, , , more)', "may change the number of classes"),
    ],
)
def test_what_may_change_the_winner_stays_and_says_why(node: str, reason: str) -> None:
    check_untouched(FoldArgMax(), before(node, HEAD20), reason)


def test_softmax_before_a_linear_resize_stays() -> None:
    """The mean of probabilities has another winner than the mean of logits."""
    text = before('p = Softmax <axis = 1> (x)  b = Resize <mode = "linear"> (p, , , big)', out="int64[1,1,12,14]")
    graph = check_pass(FoldArgMax(), text, None)
    assert [n.op for n in graph.nodes] == ["Softmax", "ResizeArgMax"]


def test_logits_that_are_an_output_too_stay() -> None:
    text = (
        HEAD
        + """g (float[1,3,6,7] x) => (float[1,3,6,7] b, int64[1,1,6,7] y) {
        b = Softmax <axis = 1> (x)  y = ArgMax <axis = 1> (b) }"""
    )
    check_untouched(FoldArgMax(), text, "'b' is also a graph output")


def test_logits_that_are_used_elsewhere_stay() -> None:
    text = (
        HEAD
        + """g (float[1,3,6,7] x) => (int64[1,1,6,7] y, float[1,3,6,7] z) {
        b = Softmax <axis = 1> (x)  y = ArgMax <axis = 1> (b)  z = Neg (b) }"""
    )
    check_untouched(FoldArgMax(), text, "'b' is also used elsewhere")


def test_old_softmax_over_several_axes_stays() -> None:
    text = before("b = Softmax <axis = 1> (x)").replace('"" : 17', '"" : 11')
    check_untouched(FoldArgMax(), text, "normalizes over several axes")


def test_a_nearest_resize_resizes_one_small_map() -> None:
    check_pass(
        FoldArgMax(),
        before('b = Resize <mode = "nearest", nearest_mode = "floor"> (x, , , big)', out="int64[1,1,12,14]"),
        HEAD
        + """g (float[1,3,6,7] x) => (int64[1,1,12,14] y) <int64[4] y_sizes = {1, 1, 12, 14}> {
            y_index = ArgMax <axis = 1, keepdims = 1> (x)
            y_narrow = Cast <to = 2> (y_index)
            y_moved = Resize <mode = "nearest", nearest_mode = "floor"> (y_narrow, , , y_sizes)
            y = Cast <to = 7> (y_moved)
        }""",
    )


DYNAMIC = """g (float[N,3,H,W] x) => (int64[N,A,B] y) <int64[2] add = {3, 4}, int64[1] zero = {0}, int64[1] two = {2},
    int64[1] four = {4}> {
    s = Shape (x)  o = Slice (s, zero, two)  i = Slice (s, two, four)  l = Add (i, add)  t = Concat <axis = 0> (o, l)
    b = Resize <%s> (x, , , t)  y = ArgMax <axis = 1, keepdims = 0> (b) }"""


@pytest.mark.parametrize("rounding", ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])
@pytest.mark.parametrize("coordinates", ["asymmetric", "half_pixel", "align_corners", "pytorch_half_pixel"])
def test_a_nearest_resize_to_a_computed_size_gives_the_same_map(rounding: str, coordinates: str) -> None:
    attributes = f'mode = "nearest", nearest_mode = "{rounding}", coordinate_transformation_mode = "{coordinates}"'
    text = HEAD + (DYNAMIC % attributes).replace("(x, , , t)", "(p, , , t)").replace("{\n    s =", "{ p = Neg (x)  s =")
    graph = check_pass(FoldArgMax(), text, None)
    assert [n.op for n in graph.nodes if n.op in ("Resize", "Squeeze", "ArgMax")] == ["ArgMax", "Resize", "Squeeze"]


def test_more_than_256_classes_move_as_int32() -> None:
    text = (
        HEAD
        + """g (float[1,300,2,2] x) => (int64[1,1,4,4] y) <float[4] twice = {1, 1, 2, 2}> {
        b = Resize <mode = "nearest"> (x, , twice)  y = ArgMax <axis = 1> (b) }"""
    )
    graph = check_pass(FoldArgMax(), text, None)
    assert [t.dtype.name for n in graph.nodes for t in n.outputs] == ["int64", "int32", "int32", "int64"]


@pytest.mark.parametrize(
    "argmax", ["axis = 3", "axis = -1, keepdims = 0", "axis = 2", "axis = 0, select_last_index = 1"]
)
def test_a_transpose_moves_the_index_instead_of_the_logits(argmax: str) -> None:
    text = before("b = Transpose <perm = [0, 2, 3, 1]> (x)", argmax=argmax)
    shape = {"axis = 3": "1,6,7,1", "axis = 2": "1,6,1,3", "axis = -1, keepdims = 0": "1,6,7"}.get(argmax, "1,6,7,3")
    graph = check_pass(FoldArgMax(), text.replace("1,1,H,W", shape), None)
    assert [n.op for n in graph.nodes][:3] == ["ArgMax", "Cast", "Transpose"]


def test_a_crop_moves_behind_the_argmax() -> None:
    graph = check_pass(FoldArgMax(), before("b = Slice (x, from, to, sides)", out="int64[1,1,3,3]"), None)
    assert [n.op for n in graph.nodes] == ["ArgMax", "Cast", "Slice", "Cast"]


def test_a_slice_of_the_classes_stays() -> None:
    check_untouched(FoldArgMax(), before("b = Slice (x, from, to, channel)"), "the Slice is along the class axis")


def test_a_linear_resize_and_its_argmax_become_one_op() -> None:
    check_pass(
        FoldArgMax(),
        before(
            'b = Resize <mode = "linear", coordinate_transformation_mode = "align_corners"> (x, , , big)',
            out="int64[1,1,12,14]",
        ),
        HEAD
        + """g (float[1,3,6,7] x) => (int64[1,1,12,14] y) <int64[2] y_size = {12, 14}> {
            y = segc.ResizeArgMax <coordinate_transformation_mode = "align_corners"> (x, y_size)
        }""",
    )


@pytest.mark.parametrize("coordinates", ["asymmetric", "half_pixel", "align_corners", "pytorch_half_pixel"])
def test_a_linear_resize_to_a_computed_size_fuses_too(coordinates: str) -> None:
    graph = check_pass(
        FoldArgMax(), HEAD + DYNAMIC % f'mode = "linear", coordinate_transformation_mode = "{coordinates}"', None
    )
    assert [n.op for n in graph.nodes][-3:] == ["Slice", "ResizeArgMax", "Squeeze"]


def test_a_linear_resize_of_opset_18_with_axes_fuses() -> None:
    text = before('b = Resize <mode = "linear", axes = [2, 3]> (x, , , size)', HEAD20, out="int64[1,1,12,14]")
    assert [n.op for n in check_pass(FoldArgMax(), text, None).nodes] == ["ResizeArgMax"]


def test_scales_fuse_only_where_they_are_the_quotient_of_the_sizes() -> None:
    good = before('b = Resize <mode = "linear"> (x, , twice)', out="int64[1,1,12,14]")
    assert [n.op for n in check_pass(FoldArgMax(), good, None).nodes] == ["ResizeArgMax"]
    check_untouched(FoldArgMax(), good.replace("{1, 1, 2, 2}", "{1, 1, 2.05, 2}"), "not the quotients of the sizes")
    dynamic = good.replace("float[1,3,6,7]", "float[1,3,H,W]").replace("1,1,12,14", "1,1,P,Q")
    check_untouched(FoldArgMax(), dynamic, "the Resize has scales, and its sizes are not static")


def test_scales_that_are_computed_are_not_known_to_keep_the_classes() -> None:
    computed = 'f = Mul (twice, c)  b = Resize <mode = "nearest"> (x, , f)'
    graph = graph_of(before(computed, out="int64[1,1,P,Q]"))
    graph.nodes[1].outputs[0].shape = [1, 3, 15, 17]
    assert [s.reason[:36] for s in FoldArgMax().run(graph).skips] == ["the scales of the Resize are not con"]


def test_a_constant_border_of_an_unknown_number_of_classes_stays() -> None:
    text = padded("b = Pad (x, p)").replace("float[1,3,6,7] x", "float[1,C,6,7] x")
    check_untouched(FoldArgMax(), text, "the number of classes is unknown")


def test_the_last_index_and_other_axes_do_not_fuse() -> None:
    resize = 'b = Resize <mode = "linear"> (x, , , big)'
    check_untouched(FoldArgMax(), before(resize, argmax="axis = 1, select_last_index = 1"), "the last index wins a tie")
    check_untouched(FoldArgMax(), before(resize, argmax="axis = 2"), "not over the channels")


def test_fusing_can_be_switched_off() -> None:
    text = before('b = Resize <mode = "linear"> (x, , , big)', out="int64[1,1,12,14]")
    check_untouched(FoldArgMax(fuse_resize=False), text, "disabled")


def test_a_chain_folds_as_far_as_it_goes() -> None:
    nodes = """m = ReduceMax <axes = [1]> (x)  s = Sub (x, m)  a = Softmax <axis = 1> (s)
        d = Resize <mode = "nearest"> (a, , , big)  e = Mul (d, c)  b = Transpose <perm = [0, 2, 3, 1]> (e)"""
    graph = check_pass(
        FoldArgMax(), before(nodes, out="int64[1,12,14]", argmax="axis = 3, keepdims = 0"), None, changes=5
    )
    assert [n.op for n in graph.nodes if n.op != "Cast"] == ["ArgMax", "Resize", "Transpose", "Squeeze"]


BORDER = (
    "<int64[8] p = {0, 0, 1, 2, 0, 0, 0, 1}, int64[8] across = {0, 1, 0, 0, 0, 0, 0, 0}, float v = {9}, int64[8] less ="
)
BORDER += (
    " {0, 0, -1, 0, 0, 0, 2, 0}, float c = {2.5}, int64[2] hw = {2, 3}, int64[4] two = {1, 2, 0, 1}, int64[4] q = {0"
)


def padded(node: str, argmax: str = "axis = 1", out: str = "int64[1,1,A,B]", head: str = HEAD) -> str:
    return (
        before(node, head, out, argmax)
        .replace("<float c = {2.5}, ", BORDER + "}, ")
        .replace("q = {0}", "q = {0, 0, 0, 0}")
    )


def test_a_border_of_one_value_is_a_tie_that_class_0_wins() -> None:
    check_pass(
        FoldArgMax(),
        padded("b = Pad (x, p, v)", out="int64[1,1,7,10]"),
        HEAD
        + """g (float[1,3,6,7] x) => (int64[1,1,7,10] y) <int64[8] p = {0, 0, 1, 2, 0, 0, 0, 1}, uint8 y_winner = {0}> {
            y_index = ArgMax <axis = 1, keepdims = 1> (x)
            y_narrow = Cast <to = 2> (y_index)
            y_moved = Pad (y_narrow, p, y_winner)
            y = Cast <to = 7> (y_moved)
        }""",
    )


@pytest.mark.parametrize(
    ("node", "argmax", "head"),
    [
        ("b = Pad (x, p)", "axis = 1, keepdims = 0", HEAD),
        ("b = Pad (x, p)", "axis = -3, select_last_index = 1", HEAD),
        ('b = Pad <mode = "edge"> (x, p)', "axis = 1", HEAD),
        ('b = Pad <mode = "reflect"> (x, p)', "axis = 1, select_last_index = 1", HEAD),
        ("b = Pad (x, less, v)", "axis = 1", HEAD),
        ("b = Pad (x, two, v, hw)", "axis = 1", HEAD20),
    ],
)
def test_every_border_gives_the_same_map(node: str, argmax: str, head: str) -> None:
    out = "int64[1,A,B]" if "keepdims = 0" in argmax else "int64[1,1,A,B]"
    graph = check_pass(FoldArgMax(), padded(node, argmax, out, head), None)
    assert [n.op for n in graph.nodes][:3] == ["ArgMax", "Cast", "Pad"]


@pytest.mark.parametrize(
    ("node", "head", "reason"),
    [
        ("b = Pad (x, across)", HEAD, "Pad is along the class axis"),
        ("a = Size (x)  s = Cast <to = 1> (a)  b = Pad (x, p, s)", HEAD, "fills in NaN or a computed value"),
        ("k = Shape (x)  i = Concat <axis = 0> (k, k)  b = Pad (x, i)", HEAD, "the pads are not constant"),
        ("b = Pad (x, p)", HEAD.replace("17", "12"), "Pad of opset 12 does not take small integers"),
    ],
)
def test_a_border_that_may_change_the_winner_stays(node: str, head: str, reason: str) -> None:
    check_untouched(FoldArgMax(), padded(node, head=head), reason)
