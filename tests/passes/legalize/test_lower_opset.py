from __future__ import annotations

import numpy as np
import onnx.checker
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segc.graph import ir
from segc.passes.legalize.lower_opset import LowerOpset
from segc.passes.support.opset.movement import pads_of_all_axes, split_sizes
from tests.helpers.checks import check_numbers, check_pass, check_untouched, graph_of, text_of

OPSETS = [17, 16, 14, 13, 12, 11]


def head(opset: int) -> str:
    return f'<ir_version: 9, opset_import: ["" : {opset}, "segc" : 1]>'


def lowered(
    text: str, opset: int, after: str | None = None, *, rewritten: int, source: int = 20, atol: float = 1e-6
) -> list[str]:
    """The ops of `text` in an older opset. rewritten: nodes; the opset's number is one more change."""
    expected = None if after is None else head(opset) + after
    graph = check_pass(LowerOpset(opset), head(source) + text, expected, atol=atol, changes=rewritten + 1)
    model = ir.to_model(graph)
    assert [o.version for o in model.opset_import if not o.domain] == [opset] and graph.opset == opset
    onnx.checker.check_model(model, full_check=True)
    return [n.op for n in graph.nodes]


def refused(text: str, opset: int, reason: str, source: int = 20) -> None:
    check_untouched(LowerOpset(opset), head(source) + text, reason)
    graph = graph_of(head(source) + text)
    LowerOpset(opset).run(graph)
    assert graph.opset == source


def test_axes_of_reductions_become_attributes_where_they_were() -> None:
    text = """ g (float[2,3,4] x) => (float[2,1,4] y, float[2,3] z) <int64[1] a = {1}, int64[1] b = {2}>
        { y = ReduceMean (x, a)  z = ReduceSum <keepdims = 0> (x, b) }"""
    lowered(
        text,
        13,
        """ g (float[2,3,4] x) => (float[2,1,4] y, float[2,3] z) <int64[1] b = {2}>
        { y = ReduceMean <axes = [1]> (x)  z = ReduceSum <keepdims = 0> (x, b) }""",
        rewritten=1,
    )
    lowered(
        text,
        11,
        """ g (float[2,3,4] x) => (float[2,1,4] y, float[2,3] z)
        { y = ReduceMean <axes = [1]> (x)  z = ReduceSum <keepdims = 0, axes = [2]> (x) }""",
        rewritten=2,
    )


def test_reductions_without_axes_take_all_or_none() -> None:
    ops = lowered(
        """ g (float[2,3] x) => (float[1,1] y, float[2,3] z)
        { y = ReduceMax <noop_with_empty_axes = 0> (x)  z = ReduceMax <noop_with_empty_axes = 1> (x) }""",
        13,
        rewritten=2,
    )
    assert ops == ["ReduceMax", "Identity"]


@pytest.mark.parametrize("opset", OPSETS)
def test_squeeze_and_unsqueeze(opset: int) -> None:
    lowered(
        """ g (float[N,1,3] x) => (float[N,3] y, float[N,1,1,3] z, float[3] w)
        <int64[1] a = {1}, int64[1] b = {0}, int64[1] c = {1}>
        { y = Squeeze (x, a)  z = Unsqueeze (x, a)  v = Slice (x, b, c, b)  w = Squeeze (v) }""",
        opset,
        rewritten=0 if opset >= 13 else 2,
    )


@pytest.mark.parametrize("opset", OPSETS)
def test_split_into_equal_parts_unequal_parts_and_given_sizes(opset: int) -> None:
    lowered(
        """ g (float[7,4] x) => (float[3,4] a, float[3,4] b, float[1,4] c, float[7,2] d, float[7,2] e,
                                 float[2,4] f, float[5,4] h) <int64[2] s = {2, 5}>
        { a, b, c = Split <num_outputs = 3> (x)  d, e = Split <num_outputs = 2, axis = 1> (x)  f, h = Split (x, s) }""",
        opset,
        rewritten=2 if opset >= 13 else 3,
    )


def test_parts_of_an_unknown_side_are_refused_and_sizes_at_run_time_too() -> None:
    text = """ g (float[N,4] x) => (float[P,4] y, float[Q,4] z) { y, z = Split <num_outputs = 2> (x) }"""
    refused(text, 13, "it splits a side of unknown size into 2 parts")
    text = """ g (float[6,4] x, int64[2] s) => (float[P,4] y, float[Q,4] z) { y, z = Split (x, s) }"""
    refused(text, 11, "split sizes are computed at run time")


@pytest.mark.parametrize("opset", OPSETS)
def test_pads_of_some_axes_become_pads_of_all(opset: int) -> None:
    text = """ g (float[N,2,3] x) => (float[N,5,6] y) <int64[4] p = {2, 1, 1, 2}, float c = {3}, int64[2] a = {-1, 1}>
        { y = Pad (x, p, c, a) }"""
    lowered(
        text,
        opset,
        """ g (float[N,2,3] x) => (float[N,5,6] y) <int64[6] y_pads = {0, 1, 2, 0, 2, 1}, float c = {3}>
        { y = Pad (x, y_pads, c) }""",
        rewritten=1,
    )
    refused(text.replace("Pad (", 'Pad <mode = "wrap"> ('), opset, "mode='wrap' has no form")


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("shape", ["1,2,3,4", "N,2,H,W"])
def test_resize_of_some_axes_becomes_one_of_all(opset: int, shape: str) -> None:
    ops = lowered(
        f""" g (float[{shape}] x) => (float[{shape[:3]},6,5] y, float[{shape[:3]},P,Q] z) <int64[2] s = {{6, 5}},
            float[2] f = {{2, 1.5}}>
        {{ y = Resize <axes = [2, 3], mode = "linear", antialias = 0, keep_aspect_ratio_policy = "stretch",
                       coordinate_transformation_mode = "half_pixel_symmetric"> (x, , , s)
           z = Resize <axes = [3, 2], mode = "nearest"> (x, , f) }}""".replace(
            "P,Q", "4,8" if shape[0] == "1" else "P,Q"
        ),
        opset,
        rewritten=2,
        atol=1e-5,
    )
    assert ops == (["Resize", "Resize"] if shape[0] == "1" else ["Shape", "Slice", "Concat", "Resize", "Resize"])


def test_resize_of_opset_11_has_empty_constants_for_what_is_omitted() -> None:
    lowered(
        """ g (float[1,2,3,4] x) => (float[1,2,6,5] y) <int64[4] s = {1, 2, 6, 5}> { y = Resize (x, , , s) }""",
        11,
        """ g (float[1,2,3,4] x) => (float[1,2,6,5] y)
        <int64[4] s = {1, 2, 6, 5}, float[0] y_roi = {}, float[0] y_scales = {}>
        { y = Resize (x, y_roi, y_scales, s) }""",
        rewritten=1,
    )


@pytest.mark.parametrize(
    ("attrs", "reason"),
    [
        ("antialias = 1", "antialias=1 has no form"),
        ('keep_aspect_ratio_policy = "not_larger"', "keep_aspect_ratio_policy='not_larger' has no form"),
    ],
)
def test_what_resize_could_not_say_is_refused(attrs: str, reason: str) -> None:
    text = f""" g (float[1,2,6,8] x) => (float[1,2,3,4] y) <int64[4] s = {{1, 2, 3, 4}}>
        {{ y = Resize <mode = "linear", {attrs}> (x, , , s) }}"""
    refused(text, 13, reason)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
def test_softmax_along_one_axis_stays_one_along_it(opset: int, op: str) -> None:
    ops = lowered(
        f""" g (float[N,5,3,4] x) => (float[N,5,3,4] y, float[N,5,3,4] z)
        {{ y = {op} <axis = 1> (x)  z = {op} (x) }}""",
        opset,
        rewritten=0 if opset >= 13 else 2,
    )
    assert ops.count("Transpose") == (2 if opset < 13 else 0)


def test_softmax_before_axes_of_one_needs_no_transpose() -> None:
    lowered(
        " g (float[N,5,1,1] x) => (float[N,5,1,1] y) { y = Softmax <axis = -3> (x) }",
        11,
        " g (float[N,5,1,1] x) => (float[N,5,1,1] y) { y = Softmax <axis = 1> (x) }",
        rewritten=1,
    )


@pytest.mark.parametrize("opset", OPSETS)
def test_attributes_at_their_defaults_are_dropped(opset: int) -> None:
    ops = lowered(
        """ g (float[1,2,4,4] x, float[2] s, float[2] b, float[2] m, float[2] v)
              => (float[1,2,4,4] y, float[1,8,4] z, int32[1,8,4] c, float[1,2,2,2] p, int64[1,1,4,4] i)
        <int64[3] shape = {1, 8, 4}>
        {
            v2 = Mul (v, v)
            y = BatchNormalization <training_mode = 0> (x, s, b, m, v2)
            z = Reshape <allowzero = 1> (y, shape)
            c = Cast <to = 6, saturate = 1> (z)
            p = AveragePool <kernel_shape = [2, 2], strides = [2, 2], dilations = [1, 1]> (x)
            i = ArgMax <axis = 1, select_last_index = 0> (x)
        }""",
        opset,
        rewritten=2 if opset >= 14 else 4 if opset >= 12 else 5,  # ArgMax is older than select_last_index
        atol=1e-5,
    )
    assert "Identity" not in ops


@pytest.mark.parametrize("opset", OPSETS)
def test_dropout_shape_castlike_comparisons_and_activations(opset: int) -> None:
    lowered(
        """ g (float[N,3,4] x, float[N,3,4] w) => (float[N,3,4] d, int64[1] s, float[N,3,4] c, bool[N,3,4] e,
                                                     bool[N,3,4] f, float[N,3,4] h, float[N,3,4] m)
        <float r = {0.5}, bool t = {0}>
        {
            d = Dropout (x, r, t)
            s = Shape <start = 1, end = -1> (x)
            i = Shape (x)
            k = ConstantOfShape (i)
            c = CastLike (k, x)
            e = GreaterOrEqual (x, w)
            f = LessOrEqual (x, w)
            h = HardSwish (x)
            m = Mish (x)
        }""",
        opset,
        rewritten={17: 1, 16: 1, 14: 3, 13: 4, 12: 4, 11: 7}[opset],
    )


def test_grid_sample_s_modes_had_other_names() -> None:
    text = """ g (float[N,2,3,4] x, float[N,5,6,2] grid) => (float[N,2,5,6] y) { y = GridSample (x, grid) }"""
    older = """ g (float[N,2,3,4] x, float[N,5,6,2] grid) => (float[N,2,5,6] y)
        { y = GridSample <mode = "bilinear"> (x, grid) }"""
    lowered(text, 16, older, rewritten=1)
    refused(text, 15, "opset 15 has no GridSample")
    refused(
        """ g (float[N,2,3,4,5] x, float[N,5,6,7,3] grid) => (float[N,2,5,6,7] y) { y = GridSample (x, grid) }""",
        16,
        "takes maps with two sides only",
    )


def test_scatter_elements_and_quantization() -> None:
    text = """ g (float[2,5] x, float[2,2] u) => (float[2,5] y, uint8[2,5] q)
        <int64[2,2] i = {0, 1, 3, 2}, float s = {0.1}, uint8 zp = {128}>
        { y = ScatterElements <axis = 1, reduction = "none"> (x, i, u)  q = QuantizeLinear <axis = 1> (x, s, zp) }"""
    for opset in OPSETS:
        lowered(text, opset, rewritten=(opset < 16) + (opset < 13))
    refused(text.replace('"none"', '"add"'), 13, "reduction='add' has no form in opset 13")


@pytest.mark.parametrize(
    ("text", "opset", "reason"),
    [
        ("g (float[N,4] x) => (float[N,4] y) { y = Gelu (x) }", 19, "opset 19 has no Gelu"),
        ("g (float[N,4] x, float[4] s) => (float[N,4] y) { y = LayerNormalization (x, s) }", 16, "has no LayerNorm"),
        (
            "g (float[3,4] x, int64[1] a) => (float[P,Q] y) { y = ReduceMax (x, a) }",
            13,
            "axes are computed at run time",
        ),
        (
            "g (float[N,4] x, bool t) => (float[N,4] y) <float r = {0.5}> { y = Dropout (x, r, t) }",
            11,
            "it may be in training mode",
        ),
        ("g (bool[2,3] x) => (bool[1,1] y) { y = ReduceMax (x) }", 13, "takes no tensor(bool)"),
        ("g (int64[2,3] x) => (int64[2,3] y) <int64 a = {1}> { y = Max (x, a) }", 11, "takes no tensor(int64)"),
        (
            "g (float[0,3] x) => (float[0,1,3] y) <int64[3] s = {0, 1, 3}> { y = Reshape <allowzero = 1> (x, s) }",
            13,
            "a size of 0 has no form",
        ),
        (
            "g (float[1,2,H,W] x) => (float[1,2,2,2] y) { y = segc.AdaptiveAvgPool2d <output_size = [2, 2]> (x) }",
            13,
            "segc.AdaptiveAvgPool2d has no body in opset 13",
        ),
        (
            "g (float[2,4,3] x, float[4] s) => (float[2,4,3] y) { y = GroupNormalization <num_groups = 2> (x, s, s) }",
            18,
            "GroupNormalization means something else in opset 18",
        ),
        (
            """g (float[1,2,4,4] x, float[1,4] r, int64[1] i) => (float[1,2,3,3] y)
            { y = RoiAlign <output_height = 3, output_width = 3> (x, r, i) }""",
            13,
            "half_pixel has no form",
        ),
    ],
)
def test_what_has_no_older_form_leaves_the_whole_graph_alone(text: str, opset: int, reason: str) -> None:
    refused(text, opset, reason, source=21 if "GroupNorm" in text else 20)


def test_one_refusal_keeps_everything_as_it_was_and_all_refusals_are_told() -> None:
    text = (
        head(20)
        + """ g (float[N,3,4] x) => (float[N,1,4] y) <int64[1] a = {1}>
        { t = Gelu (x)  s = ReduceMean (t, a)  u = Softmax <axis = 1> (s)  y = Gelu (u) }"""
    )
    graph = graph_of(text)
    users = {name: len(t.outputs) for name, t in graph.tensors().items()}
    result = LowerOpset(11).run(graph)
    assert result.changes == 0 and len(result.skips) == 2
    assert text_of(graph) == text_of(graph_of(text))
    assert {name: len(t.outputs) for name, t in graph.tensors().items()} == users


def test_older_graphs_are_none_of_our_business() -> None:
    check_untouched(LowerOpset(17), head(13) + "g (float[N,4] x) => (float[N,4] y) { y = Relu (x) }", None)
    with pytest.raises(ValueError, match="opset 10 is older than 11"):
        LowerOpset(10)


def test_a_graph_that_says_the_same_in_both_only_changes_its_number() -> None:
    text = " g (float[1,3,8,8] x, float[4,3,3,3] w) => (float[1,4,6,6] y) { c = Conv (x, w)  y = Relu (c) }"
    assert lowered(text, 11, text, rewritten=0) == ["Conv", "Relu"]


def test_nodes_of_a_subgraph_are_lowered_in_place() -> None:
    text = """ g (float[2,3] x, bool t) => (float[2,1] y) <int64[1] a = {1}>
        { y = If (t) <then_branch = one () => (float[2,1] u) { u = ReduceMean (x, a) },
                      else_branch = two () => (float[2,1] v) { v = ReduceMax (x, a) }> }"""
    original, graph = graph_of(head(20) + text), graph_of(head(20) + text)
    assert LowerOpset(13).run(graph).changes == 3
    onnx.checker.check_model(ir.to_model(graph), full_check=True)
    check_numbers(original, graph)
    refused(text.replace("u = ReduceMean (x, a)", "u = Mish (x2)").replace("(x2)", "(x)"), 13, "in a subgraph")


@given(st.integers(1, 60), st.integers(1, 9))
def test_parts_add_up_to_the_side(side: int, parts: int) -> None:
    sizes = split_sizes(side, parts)
    assert sum(sizes) == side and len(sizes) == parts
    chunks = [len(c) for c in (range(side)[i : i + sizes[0]] for i in range(0, side, sizes[0]))]
    assert sizes == chunks + [0] * (parts - len(chunks))


@given(st.permutations(range(4)), st.integers(0, 4), st.lists(st.integers(0, 5), min_size=8, max_size=8))
def test_pads_of_some_axes_pad_those(order: list[int], count: int, numbers: list[int]) -> None:
    axes, pads = order[:count], [*numbers[:count], *numbers[4 : 4 + count]]
    whole = pads_of_all_axes(pads, [a - 4 if a % 2 else a for a in axes], 4)
    x = np.zeros((1, 2, 3, 1))
    want = {a: (pads[i], pads[i + count]) for i, a in enumerate(axes)}
    padded = np.pad(x, [(whole[i], whole[i + 4]) for i in range(4)])
    assert padded.shape == tuple(s + sum(want.get(a, (0, 0))) for a, s in enumerate(x.shape))
    assert all((whole[a], whole[a + 4]) == want.get(a, (0, 0)) for a in range(4))


def test_an_op_that_the_newer_opset_does_not_know_keeps_the_graph_as_it_is() -> None:
    graph = graph_of(head(20) + " g (float[4] x) => (float[4] y) { a = Relu (x)  y = Nope (a) }")
    result = LowerOpset(13).run(graph)
    assert (result.changes, graph.opset) == (0, 20)
    assert [skip.reason for skip in result.skips] == ["Nope is unknown in opset 20"]
