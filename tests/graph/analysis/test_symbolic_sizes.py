from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segc.graph.analysis.symbolic_sizes import estimate, least


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (7, 7),
        (np.int64(7), 7),
        ("H", 1024),
        ("(((s53 - 1)//8)) + 1", 128),
        ("2*H", 2048),
        ("-(-H)", 1024),
        (None, None),
        (0, None),
        (-1, None),
        (2.5, None),
        ("H - 2000", None),
        ("H//0", None),
        ("Max(1, H)", 1024),
        ("H/2", 512),
        ("H/3", None),
        ("0.5*H + 0.25", None),
        ("((TruncToInt(0.5*ToFloat(H - 1)) - 1)//2) + 1", 256),
        ("RoundToInt(0.3*ToFloat(H))", 307),
        ("16*CeilToInt(IntTrueDiv(H + 1, 16))", 1040),
        ("Mod(H, 16)", None),
        ("H % 16", None),
        ("1e999", None),
        ("H*1e999", None),
        ("1e999 - 1e999", None),
        ("not an expression", None),
        ("", None),
        ("unk__12", 1024),
        ("__import__('os')", None),
    ],
)
def test_what_is_known_of_a_size(size: Any, expected: int | None) -> None:
    assert estimate(size) == expected


def test_symbols_can_stand_for_another_side() -> None:
    assert estimate("H//4", side=512) == 128


TOKENS = "((s0 + Max(0, -s0 + 16*CeilToInt(IntTrueDiv(s0, 16))))//16)"  # of a side padded to a multiple of 16


@pytest.mark.parametrize(
    ("size", "bound"),
    [
        (7, 7),
        ("H", 1),
        ("H + 150", 151),
        (f"{TOKENS}*{TOKENS} + 150", 150),
        ("2*H - 1", 1),
        ("Min(H, 5) + 3", 4),
        ("(H + 15)//16", 1),
        ("((H - 1)//4) + 1", 1),
        ("-H + 100", 0),
        ("H//W + 3", 0),
        ("TruncToInt(0.5*ToFloat(H)) + 3", 3),
        ("TruncToInt(-0.5*ToFloat(H)) + 3", 0),
        ("H % 16 + 3", 0),
        ("Pow(H, 2)", 0),
        ("unk__12", 1),
        ("not an expression", 0),
        (None, 0),
        (2.5, 0),
    ],
)
def test_what_a_size_is_never_below(size: Any, bound: int) -> None:
    assert least(size) == bound


sides = st.integers(1, 10_000)
expressions = st.recursive(
    st.sampled_from(["H", "W"]) | st.integers(0, 40).map(str),
    lambda inner: (
        st.builds("({} {} {})".format, inner, st.sampled_from(["+", "-", "*"]), inner)
        | st.builds("(({})//{})".format, inner, st.integers(1, 32))
        | st.builds("CeilToInt(IntTrueDiv({}, {}))".format, inner, st.integers(1, 32))
        | st.builds("TruncToInt({}*ToFloat({}))".format, st.sampled_from([0.5, 0.25, -0.5, 2.0]), inner)
        | st.builds("{}({}, {})".format, st.sampled_from(["Max", "Min"]), inner, inner)
    ),
    max_leaves=8,
)


@given(expressions, sides, sides)
def test_no_size_is_below_its_bound(size: str, height: int, width: int) -> None:
    assert least(size) <= max(0, value_of(size, height, width))


@given(expressions, st.integers(1, 60))  # whose products floats hold
def test_an_estimate_is_the_value_at_that_side(size: str, side: int) -> None:
    value = value_of(size, side, side)
    assert estimate(size, side) == (value if value > 0 else None)


def value_of(size: str, height: int, width: int) -> int:
    names = {
        "H": height, "W": width, "Max": max, "Min": min, "CeilToInt": math.ceil, "IntTrueDiv": Fraction,
        "TruncToInt": math.trunc, "ToFloat": Fraction,
    }  # fmt: skip
    return int(eval(size, {"__builtins__": {}}, names))
