from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segc.passes.legalize.conv_transpose import LegalizeConvTranspose, zeros
from segc.passes.support.builder import RewriteNotApplicable
from tests.helpers.checks import HEAD, check_pass, check_untouched


def conv(attributes: str, kernel: str = "2,3,3,2", outs: int = 3, x: str = "float[2,2,4,5]") -> str:
    size = 1
    for part in kernel.split(","):
        size *= int(part)
    values = ", ".join(str((i * 7) % 11 - 5) for i in range(size))
    bias = ", ".join(str(i) for i in range(outs))
    return (
        HEAD
        + f""" g ({x} x) => (float[N,{outs},H,W] y) <float[{kernel}] w = {{{values}}}, float[{outs}] b = {{{bias}}}>
        {{ y = ConvTranspose <{attributes}> (x, w, b) }}"""
    )


@pytest.mark.parametrize(
    "attributes",
    [
        "strides = [2, 2], pads = [1, 1, 1, 1], output_padding = [1, 1]",
        "strides = [2, 3], pads = [0, 1, 2, 0], output_padding = [1, 2]",
        "strides = [2, 2], pads = [1, 0, 2, 1]",
        "strides = [2, 2], pads = [0, 0, 0, 0], output_padding = [1, 0]",
        "strides = [3, 2], dilations = [2, 1], pads = [0, 0, 2, 0]",
        'strides = [2, 2], auto_pad = "SAME_UPPER"',
        'strides = [2, 2], auto_pad = "SAME_LOWER"',
        "strides = [2, 2], output_shape = [9, 11]",
        "strides = [2, 2], output_shape = [8, 10]",
    ],
)
def test_every_size_comes_from_zeros_in_the_kernel(attributes: str) -> None:
    graph = check_pass(LegalizeConvTranspose(), conv(attributes), None)
    (node,) = graph.nodes
    pads = node.attrs["pads"]
    assert pads[:2] == pads[2:]
    assert not {"output_padding", "output_shape", "auto_pad"} & set(node.attrs)


def test_groups_become_blocks() -> None:
    graph = check_pass(
        LegalizeConvTranspose(),
        conv("group = 2, strides = [2, 2]", "4,2,2,2", 4, "float[1,4,3,3]"),
        None,
    )
    assert list(graph.nodes[0].inputs[1].shape) == [4, 4, 2, 2] and graph.nodes[0].attrs["group"] == 1


def test_the_upsampling_of_erfnet_gets_a_kernel_of_four() -> None:
    """stride 2, kernel 3, pad 1, output_padding 1: one row and column of zeros behind."""
    text = (
        HEAD
        + """ g (float[1,1,2,2] x) => (float[1,1,4,4] y) <float[1,1,3,3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9}>
        { y = ConvTranspose <strides = [2, 2], pads = [1, 1, 1, 1], output_padding = [1, 1]> (x, w) }"""
    )
    check_pass(
        LegalizeConvTranspose(),
        text,
        HEAD
        + """ g (float[1,1,2,2] x) => (float[1,1,4,4] y)
        <float[1,1,4,4] y_kernel = {1, 2, 3, 0, 4, 5, 6, 0, 7, 8, 9, 0, 0, 0, 0, 0}>
        { y = ConvTranspose <kernel_shape = [4, 4], strides = [2, 2], dilations = [1, 1], pads = [1, 1, 1, 1],
            group = 1> (x, y_kernel) }""",
    )


def test_sizes_may_be_dynamic() -> None:
    text = conv("strides = [2, 2], pads = [1, 1, 1, 1], output_padding = [1, 1]", x="float[N,2,A,B]")
    check_pass(LegalizeConvTranspose(), text, None)


def test_a_plain_one_is_left_alone() -> None:
    check_untouched(LegalizeConvTranspose(), conv("strides = [2, 2], pads = [1, 1, 1, 1]"), None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (conv("dilations = [2, 2], pads = [0, 0, 1, 0]"), "1 cells are not a multiple of the dilation 2"),
        (conv('strides = [2, 2], auto_pad = "SAME_UPPER"', x="float[1,2,A,B]"), "sides that are not static"),
        (
            HEAD
            + """ g (float[1,2,4,4] x, float[2,1,3,3] w) => (float[1,2,9,9] y)
            { y = ConvTranspose <group = 2, strides = [2, 2]> (x, w) }""",
            "computed at run time",
        ),
    ],
)
def test_what_is_left_alone_says_why(text: str, reason: str) -> None:
    check_untouched(LegalizeConvTranspose(), text, reason)


@given(st.integers(-4, 6), st.integers(-4, 6), st.integers(1, 3))
def test_zeros_and_pad_cut_off_what_is_asked(front: int, back: int, dilation: int) -> None:
    try:
        before, after, pad = zeros(front, back, dilation)
    except RewriteNotApplicable:
        assert (front - back) % dilation or min(front, back, 0) % dilation
        return
    assert min(before, after, pad) >= 0
    assert pad - before * dilation == front and pad - after * dilation == back
