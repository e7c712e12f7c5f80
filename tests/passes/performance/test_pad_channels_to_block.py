from __future__ import annotations

import numpy as np
import pytest

from segc.passes.performance.pad_channels_to_block import PadChannelsToBlock
from tests.helpers.checks import apply, check_untouched
from tests.helpers.odd_channels import BN, COMPUTED, CONV, JOIN, STAYS, graph, numbers


@pytest.mark.parametrize(
    ("between", "slope"),
    [
        (f"y = {CONV.format('j')}", "1"),
        (f"n = {BN.format('j')}  y = {CONV.format('n')}", "1"),
        (f"n = {BN.format('j')}  p = PRelu(n, slope)  r = Relu(p)  y = {CONV.format('r')}", "35,1,1"),
        (f"p = PRelu(j, slope)  y = {CONV.format('p')}", "1,35,1,1"),
        (f"p = PRelu(j, slope)  y = {CONV.format('p')}", "1,1,1"),
    ],
)
def test_zeros_fill_the_block(between: str, slope: str) -> None:
    made = graph(f"{JOIN}  {between}", slope=slope)
    before, count = numbers(made), len(made.nodes)
    assert apply(PadChannelsToBlock(), made).changes == 1
    np.testing.assert_allclose(numbers(made), before, atol=1e-6 * np.abs(before).max())
    assert sorted(node.op for node in made.nodes).count("Pad") == 1 and len(made.nodes) == count + 1
    assert next(node for node in made.nodes if node.op == "Conv").inputs[1].shape == (5, 48, 3, 3)
    assert apply(PadChannelsToBlock(), made).changes == 0


def test_new_channels_are_zero_whatever_the_statistics_are() -> None:
    """A shift, or a variance of zero, must not reach them."""
    made = graph(f"{JOIN}  n = {BN.format('j')}  y = {CONV.format('n')}")
    apply(PadChannelsToBlock(), made)
    scale, shift, mean, variance = (
        t.values for t in next(node for node in made.nodes if node.op == "BatchNormalization").inputs[1:]
    )
    assert not scale[35:].any() and not shift[35:].any() and not mean[35:].any() and (variance[35:] == 1).all()
    assert (scale[:35] > 0).all() and len(scale) == 48


def test_the_odd_part_may_lie_between_and_sizes_be_unknown() -> None:
    given = "float[N,32,H,W] a, float[N,3,H,W] b, float[N,32,H,W] c"
    made = graph(f"j = Concat<axis = -3>(a, b, c)  n = {BN.format('j')}  y = {CONV.format('n')}", 67, given)
    before = numbers(made)
    assert apply(PadChannelsToBlock(), made).changes == 1
    np.testing.assert_allclose(numbers(made), before, atol=1e-6 * np.abs(before).max())


@pytest.mark.parametrize(("body", "channels", "given", "reason"), STAYS)
def test_stays(body: str, channels: int, given: str, reason: str | None) -> None:
    result = apply(PadChannelsToBlock(), graph(body, channels, given))
    assert result.changes == 0
    assert [skip.reason for skip in result.skips] == [] if reason is None else reason in result.skips[0].reason


@pytest.mark.parametrize(("model", "reason"), COMPUTED)
def test_numbers_that_are_computed_stay_together(model: str, reason: str) -> None:
    check_untouched(PadChannelsToBlock(), model, reason)


def test_opsets_whose_pad_has_attributes_are_left() -> None:
    made = graph(f"{JOIN}  y = {CONV.format('j')}")
    made.opset = 10
    result = apply(PadChannelsToBlock(), made)
    assert result.changes == 0 and "takes its pads as attributes" in result.skips[0].reason
