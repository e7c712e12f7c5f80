from __future__ import annotations

import pytest

from segc.passes.masks.strip_final_resize import StripFinalResize
from tests.helpers.checks import HEAD20, check_pass, check_untouched, graph_of

STATIC = "float[1,3,8,12] x) => (float[1,2,8,12] y) <float[2,3,1,1] w = {1,2,3,4,5,6}, int64[4] s = {1,2,8,12}>"


def net(resize: str = 'mode = "linear"', header: str = STATIC, before: str = "", after: str = "y") -> str:
    return f"""{HEAD20} g ({header} {{
        a = Conv <strides = [2, 2]> (x, w) {before} {after} = Resize <{resize}> (a, , , s) }}"""


@pytest.mark.parametrize("where", ["half_pixel", "pytorch_half_pixel"])
def test_the_last_resize_is_left_and_the_output_keeps_its_name(where: str) -> None:
    check_pass(
        StripFinalResize(),
        net(f'mode = "linear", coordinate_transformation_mode = "{where}"'),
        f"""{HEAD20} g (float[1,3,8,12] x) => (float[1,2,4,6] y) <float[2,3,1,1] w = {{1,2,3,4,5,6}}>
        {{ y = Conv <strides = [2, 2]> (x, w) }}""",
        same_outputs=False,
    )


def test_coordinates_must_be_those_asked_for() -> None:
    aligned = net('mode = "linear", coordinate_transformation_mode = "align_corners"')
    assert [n.op for n in check_pass(StripFinalResize(True), aligned, None, same_outputs=False).nodes] == ["Conv"]
    check_untouched(StripFinalResize(), aligned, "its coordinate mode is align_corners")
    check_untouched(StripFinalResize(True), net(), "its coordinate mode is half_pixel")


def test_symbolic_sizes_must_be_those_of_the_input() -> None:
    text = f"""{HEAD20} g (float[N,3,H,W] x) => (float[N,2,H,W] y)
        <float[2,3,1,1] w = {{1,2,3,4,5,6}}, int64[1] a = {{2}}, int64[1] b = {{4}}> {{
        small = Conv <strides = [2, 2]> (x, w)  whole = Shape (x)  s = Slice (whole, a, b)
        y = Resize <mode = "linear", axes = [2, 3]> (small, , , s) }}"""
    graph = check_pass(StripFinalResize(), text, None, same_outputs=False)
    assert [n.op for n in graph.nodes] == ["Conv"] and graph.outputs[0].name == "y"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (net('mode = "nearest"'), "not plain linear"),
        (net('mode = "linear", antialias = 1'), "not plain linear"),
        (net('mode = "linear", keep_aspect_ratio_policy = "not_larger"'), "aspect ratio"),
        (net(header=STATIC.replace("1,2,8,12", "1,2,16,24")), "it resizes to"),
        (
            f"""{HEAD20} g (float[1,3,8,12] x) => (float[1,3,8,12] y) <int64[4] s = {{1,3,8,12}}>
            {{ y = Resize <mode = "linear"> (x, , , s) }}""",
            "cannot be an output",
        ),
    ],
)
def test_others_are_left_alone(text: str, reason: str) -> None:
    check_untouched(StripFinalResize(), text, reason)


def test_logits_that_end_in_something_else_are_not_recognised() -> None:
    check_untouched(StripFinalResize(), net(after="z").replace("(a, , , s) }", "(a, , , s)  y = Relu (z) }"), None)


def test_one_of_several_outputs_is_left_alone() -> None:
    two = net(header=STATIC.replace("[1,2,8,12] y)", "[1,2,8,12] y, float[1,2,4,6] a)"))
    check_untouched(StripFinalResize(), two, None)


def test_an_output_that_is_an_input_is_left_alone() -> None:
    check_untouched(StripFinalResize(), HEAD20 + " g (float[1,3,8,12] x) => (float[1,3,8,12] x) { }", None)


def test_a_resize_of_another_domain_is_left_alone() -> None:
    graph = graph_of(net())
    graph.nodes[-1].domain = "other"
    assert [s.reason for s in StripFinalResize().run(graph).skips] == ["the last Resize is not plain linear"]


@pytest.mark.parametrize(
    "text",
    [
        net(header=STATIC.replace("x) =>", "x, float[1] more) =>")),
        f"""{HEAD20} g (float[1,3,12] x) => (float[1,2,12] y)
        <float[2,3,1] w = {{1,2,3,4,5,6}}, int64[3] s = {{1,2,12}}>
        {{ a = Conv <strides = [2]> (x, w)  y = Resize <mode = "linear"> (a, , , s) }}""",
    ],
    ids=["a second input", "a signal of three axes"],
)
def test_what_is_no_map_of_one_image_is_left_alone(text: str) -> None:
    check_untouched(StripFinalResize(), text, "the shapes of its input and output are unknown")


def test_maps_of_unknown_rank_are_left_alone() -> None:
    graph = graph_of(net())
    graph.nodes[0].outputs[0].shape = None
    skips = StripFinalResize().run(graph).skips
    assert [skip.reason for skip in skips] == ["the shapes of its input and output are unknown"]


@pytest.mark.parametrize(("classes", "given"), [("4", "2"), ("C", "C")])
def test_a_resize_of_the_classes_is_left_alone(classes: str, given: str) -> None:
    text = f"""{HEAD20} g (float[1,{given},8,12] x) => (float[1,{classes},8,12] y) <float[4] s = {{1, 2, 2, 2}}>
        {{ a = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)  y = Resize <mode = "linear"> (a, , s) }}"""
    check_untouched(StripFinalResize(), text, "it may change the number of classes")


def test_sizes_without_a_name_are_left_alone() -> None:
    graph = graph_of(net())
    graph.inputs[0].shape = graph.outputs[0].shape = [1, 2, None, None]
    assert [s.reason[:12] for s in StripFinalResize().run(graph).skips] == ["it resizes t"]


def test_a_resize_to_the_same_size_and_one_of_the_input_are_left_alone() -> None:
    check_untouched(StripFinalResize(), net().replace("<strides = [2, 2]>", ""), "'a' cannot be an output")
    text = f"""{HEAD20} g (float[1,2,H,W] x) => (float[1,2,H,W] y) {{ s = Shape (x)
        y = Resize <mode = "linear"> (x, , , s) }}"""
    check_untouched(StripFinalResize(), text, "'x' cannot be an output")
