from __future__ import annotations

import pytest

from segc.passes.cleanup.fuse_pad_conv import FusePadConv
from tests.helpers.checks import HEAD, check_pass, check_untouched

CONSTANTS = """<float[2,1,2,2] w = {1, 2, 3, 4, 5, 6, 7, 8}, int64[8] p = {0, 0, 1, 0, 0, 0, 0, 1},
    int64[8] c = {0, 1, 1, 0, 0, 0, 0, 1}, int64[8] less = {0, 0, 1, 0, 0, 0, 0, -1},
    int64[8] big = {0, 0, 2, 0, 0, 0, 0, 1}, float v = {2}>"""


def text(nodes: str, y: str = "float[N,C,A,B] y", x: str = "float[1,1,5,6] x", head: str = HEAD) -> str:
    return f"{head} g ({x}) => ({y}) {CONSTANTS} {{ {nodes} }}"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Conv (a, w)", "Conv <pads = [1, 0, 0, 1]> (x, w)"),
        ('Conv <auto_pad = "VALID"> (a, w)', "Conv <pads = [1, 0, 0, 1]> (x, w)"),
        (
            "Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (a, w)",
            "Conv <pads = [2, 1, 1, 2], strides = [2, 2]> (x, w)",
        ),
        (
            "AveragePool <kernel_shape = [2, 2]> (a)",
            "AveragePool <kernel_shape = [2, 2], pads = [1, 0, 0, 1], count_include_pad = 1> (x)",
        ),
        (
            "AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = 1> (a)",
            "AveragePool <kernel_shape = [3, 3], pads = [2, 1, 1, 2], count_include_pad = 1> (x)",
        ),
    ],
)
def test_zeros_in_front_become_the_padding_of_the_node(before: str, after: str) -> None:
    check_pass(FusePadConv(), text(f"a = Pad (x, p)  y = {before}"), text(f"y = {after}"), atol=1e-6)


def test_a_maximum_ignores_minus_infinity() -> None:
    nodes = "a = Pad (x, p, low)  y = MaxPool <kernel_shape = [2, 3]> (a)"
    graph = check_pass(FusePadConv(), text(nodes).replace("float v", "float low = {-inf}, float v"), None)
    assert graph.nodes[0].attrs["pads"] == [1, 0, 0, 1]


def test_two_users_both_take_it() -> None:
    nodes = "a = Pad (x, p)  y = Conv (a, w)  z = AveragePool <kernel_shape = [2, 2]> (a)"
    graph = check_pass(FusePadConv(), text(nodes, "float[N,C,A,B] y, float[1,1,A,B] z"), None, atol=1e-6, changes=2)
    assert sorted(n.op for n in graph.nodes) == ["AveragePool", "Conv"]


@pytest.mark.parametrize(
    ("pad", "user", "reason"),
    [
        ("Pad (x, p, v)", "Conv (a, w)", "Pad fills in 2.0, Conv would fill in 0"),
        ('Pad <mode = "reflect"> (x, p)', "Conv (a, w)", "Pad is reflect"),
        ("Pad (x, c)", "Conv <group = 2> (a, w)", "pads the batch or channel axis"),
        ("Pad (x, less)", "Conv (a, w)", "a negative pad crops"),
        ("Pad (x, i)", "Conv (a, w)", "the pads are not constant"),
        ("Pad (x, p)", 'Conv <auto_pad = "SAME_LOWER"> (a, w)', "auto_pad determines the pads"),
        ("Pad (x, p)", "MaxPool <kernel_shape = [2, 2]> (a)", "Pad fills in 0.0, MaxPool would fill in -inf"),
        ("Pad (x, p)", "AveragePool <kernel_shape = [2, 2], ceil_mode = 1> (a)", "ceil_mode or dilations"),
        ("Pad (x, big)", "AveragePool <kernel_shape = [2, 2]> (a)", "the pads are as large as the kernel"),
        (
            "Pad (x, p)",
            "AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (a)",
            "the pool pads without counting",
        ),
        ("Pad (x, p)", "Conv (a, w)  z = Neg (a)", "'a' is also used elsewhere"),
    ],
)
def test_what_the_node_would_do_otherwise_stays_and_says_why(pad: str, user: str, reason: str) -> None:
    y = "float[N,C,A,B] y" + (", float[1,1,6,7] z" if "z =" in user else "")
    check_untouched(FusePadConv(), text(f"a = {pad}  y = {user}", y, "float[1,1,5,6] x, int64[8] i"), reason)


def test_a_padded_map_that_is_an_output_stays() -> None:
    nodes = "a = Pad (x, p)  y = Conv (a, w)"
    check_untouched(FusePadConv(), text(nodes, "float[N,C,A,B] y, float[1,1,6,7] a"), "'a' is an output")
