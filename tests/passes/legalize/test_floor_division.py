from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segc.graph import ir
from segc.passes.legalize.floor_division import LegalizeFloorDivision
from segc.passes.support import evaluate
from tests.helpers.checks import HEAD20, check_pass, check_untouched, graph_of

BY_SIZE = (
    HEAD20
    + """g (int64[N] a, float[H] image) => (float[N] y) {
    side = Shape (image)  above = Cast <to = 1> (a)  below = Cast <to = 1> (side)
    ratio = Div (above, below)  y = Floor (ratio) }"""
)


def by_constant(divisor: float) -> str:
    """Floor(a / divisor) of integers, as PyTorch's exporter spells it."""
    return (
        HEAD20
        + f"""g (int64[N] a) => (float[N] y) <float b = {{{divisor}}}> {{
        above = Cast <to = 1> (a)  ratio = Div (above, b)  y = Floor (ratio) }}"""
    )


def test_a_size_divides_as_an_integer() -> None:
    check_pass(
        LegalizeFloorDivision(),
        HEAD20
        + """g (int64[5] a, float[3] image) => (float[5] y) {
        side = Shape (image)  above = Cast <to = 1> (a)  below = Cast <to = 1> (side)
        ratio = Div (above, below)  y = Floor (ratio) }""",
        HEAD20
        + """g (int64[5] a, float[3] image) => (float[5] y) {
        side = Shape (image)  y_remainder = Mod (a, side)  y_even = Sub (a, y_remainder)
        y_quotient = Div (y_even, side)  y = Cast <to = 1> (y_quotient) }""",
        atol=0,
    )


@given(
    a=st.lists(st.integers(-(2**24), 2**24), min_size=1, max_size=8),
    b=st.integers(-3000, 3000).filter(bool),
    times=st.integers(-5000, 5000),
)
@settings(deadline=None, max_examples=100)
def test_the_quotient_is_pythons(a: list[int], b: int, times: int) -> None:
    graph = graph_of(by_constant(b))
    assert LegalizeFloorDivision().run(graph).changes == 1
    given_numbers = np.array([*a, b * times, b * times - 1])
    got = evaluate.outputs(graph, {"a": given_numbers})["y"]
    np.testing.assert_array_equal(got, (given_numbers // b).astype(np.float32))


@pytest.mark.parametrize("divisor", [0.0, 2.5, float(2**25)])
def test_constants_that_are_no_usable_integers_are_left_alone(divisor: float) -> None:
    check_untouched(LegalizeFloorDivision(), by_constant(divisor), "its divisor is 0 or not an integer")


def test_a_value_that_may_be_zero_is_left_alone() -> None:
    check_untouched(
        LegalizeFloorDivision(),
        HEAD20
        + """g (int64[2] a, int64[1] b) => (float[2] y) {
        above = Cast <to = 1> (a)  below = Cast <to = 1> (b)  ratio = Div (above, below)  y = Floor (ratio) }""",
        "may be 0",
    )


def test_random_numbers_are_no_sizes() -> None:
    check_untouched(
        LegalizeFloorDivision(),
        HEAD20
        + """g (int64[2] a) => (float[2] y) { r = RandomUniform <shape = [1], seed = 1.0> ()  b = Cast <to = 7> (r)
        above = Cast <to = 1> (a)  below = Cast <to = 1> (b)  ratio = Div (above, below)  y = Floor (ratio) }""",
        "may be 0",
    )


def test_a_division_of_floats_is_none_of_its_business() -> None:
    graph = graph_of(HEAD20 + "g (float[2] a, float[2] b) => (float[2] y) { r = Div (a, b)  y = Floor (r) }")
    result = LegalizeFloorDivision().run(graph)
    assert result.changes == 0 and not result.skips


@pytest.mark.parametrize("text", [BY_SIZE, by_constant(41), by_constant(61)], ids=["size", "41", "61"])
def test_openvino_divides_exactly(text: str, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    from segc.targets import Settings
    from segc.targets.openvino.target import OPENVINO

    graph = graph_of(text)
    for step in OPENVINO.legalize:
        step.run(graph)
    ir.cleanup(graph)
    emitted = OPENVINO.emit(ir.to_model(graph), tmp_path, Settings())
    side = 82 if "image" in text else int(float(text.partition("{")[2].partition("}")[0]))
    a = np.arange(3000) * side
    session = OPENVINO.load(tmp_path, emitted.options, 1)
    inputs = {"a": a, **({"image": np.zeros(side, np.float32)} if "image" in text else {})}
    np.testing.assert_array_equal(session.run_named(inputs)["y"], np.arange(3000, dtype=np.float32))  # type: ignore[attr-defined]


COMPUTED = (
    HEAD20
    + """g (int64[2] a, float[3,H] image) => (float[2] y)
    <int64[1] at = {{1}}, int64[1] end = {{2}}, int64[1] one = {{1}}, int64[1] two = {{2}}> {{
    {divisor}  above = Cast <to = 1> (a)  below = Cast <to = 1> (b)  ratio = Div (above, below)  y = Floor (ratio) }}"""
)


@pytest.mark.parametrize(
    "divisor",
    [
        "s = Shape (image)  h = Slice (s, at, end, , one)  b = Mul (h, two)",
        "s = Size (image)  n = Add (s, s)  b = Identity (n)",
    ],
    ids=["with constants and an omitted input", "read twice"],
)
def test_sizes_stay_sizes_through_arithmetic(divisor: str) -> None:
    graph = graph_of(COMPUTED.format(divisor=divisor))
    assert LegalizeFloorDivision().run(graph).changes == 1
    feeds = {"a": np.array([100, -1]), "image": np.zeros((3, 7), np.float32)}
    by = 14 if "Slice" in divisor else 42
    np.testing.assert_array_equal(evaluate.outputs(ir.cleanup(graph), feeds)["y"], [100 // by, -1])


def test_control_flow_is_no_arithmetic_of_sizes() -> None:
    divisor = """s = Size (image)  c = Equal (s, s)
        b = If (c) <then_branch = t () => (int64[1] p) <int64[1] p = {0}> {},
            else_branch = f () => (int64[1] q) <int64[1] q = {1}> {}>"""
    check_untouched(LegalizeFloorDivision(), COMPUTED.format(divisor=divisor), "may be 0")


def test_a_divisor_that_is_no_integer_at_all_is_left_alone() -> None:
    text = (
        HEAD20 + "g (int64[2] a, float[2] b) => (float[2] y) { c = Cast <to = 1> (a)  r = Div (c, b)  y = Floor (r) }"
    )
    check_untouched(LegalizeFloorDivision(), text, "may be 0")
