from __future__ import annotations

import numpy as np
import pytest

from segc.passes.performance.split_conv_over_concat import SplitConvOverConcat
from tests.helpers.checks import apply, check_untouched
from tests.helpers.odd_channels import BN, COMPUTED, CONV, JOIN, STAYS, graph, numbers


@pytest.mark.parametrize(
    ("between", "counts"),
    [
        (f"y = {CONV.format('j')}", {}),
        (f"n = {BN.format('j')}  y = {CONV.format('n')}", {"BatchNormalization": 2}),
        (
            f"n = {BN.format('j')}  p = PRelu(n, slope)  r = Relu(p)  y = {CONV.format('r')}",
            {"BatchNormalization": 2, "PRelu": 2, "Relu": 2},
        ),
    ],
)
def test_a_block_and_the_odd_rest_are_convolved_apart(between: str, counts: dict[str, int]) -> None:
    made = graph(f"{JOIN}  {between}")
    before = numbers(made)
    assert apply(SplitConvOverConcat(), made).changes == 1
    np.testing.assert_allclose(numbers(made), before, atol=1e-5 * np.abs(before).max())
    found = [node.op for node in made.nodes]
    assert {op: found.count(op) for op in set(found)} == {**counts, "Conv": 2, "Add": 1}
    assert apply(SplitConvOverConcat(), made).changes == 0


@pytest.mark.parametrize("slope", ["1", "1,1,1", "1,35,1,1"])
def test_slopes_of_any_shape(slope: str) -> None:
    made = graph(f"{JOIN}  p = PRelu(j, slope)  y = {CONV.format('p')}", slope=slope)
    before = numbers(made)
    assert apply(SplitConvOverConcat(), made).changes == 1
    np.testing.assert_allclose(numbers(made), before, atol=1e-5 * np.abs(before).max())


def test_the_odd_part_may_lie_between_and_sizes_be_unknown() -> None:
    """CGNet joins 64 channels, 64 more and the image's three."""
    given = "float[N,32,H,W] a, float[N,3,H,W] b, float[N,32,H,W] c"
    made = graph(f"j = Concat<axis = -3>(a, b, c)  n = {BN.format('j')}  y = {CONV.format('n')}", 67, given)
    before = numbers(made)
    assert apply(SplitConvOverConcat(), made).changes == 1
    np.testing.assert_allclose(numbers(made), before, atol=1e-5 * np.abs(before).max())
    assert [node.op for node in made.nodes].count("Concat") == 1


@pytest.mark.parametrize(("body", "channels", "given", "reason"), STAYS)
def test_stays(body: str, channels: int, given: str, reason: str | None) -> None:
    result = apply(SplitConvOverConcat(), graph(body, channels, given))
    assert result.changes == 0
    assert [skip.reason for skip in result.skips] == [] if reason is None else reason in result.skips[0].reason


@pytest.mark.parametrize(("model", "reason"), COMPUTED)
def test_numbers_that_are_computed_stay_together(model: str, reason: str) -> None:
    check_untouched(SplitConvOverConcat(), model, reason)
