from __future__ import annotations

import pytest

from segc.passes.legalize.shape_gathers import LegalizeShapeGathers
from tests.helpers.checks import HEAD, check_pass, check_untouched


def graph(body: str, constants: str, y: str = "int64[K] y") -> str:
    return HEAD + f" g (float[N,2,H,W] x, int64[4] v, int64[1] j) => ({y}) <{constants}> {{ {body} }}"


def test_the_index_becomes_a_number() -> None:
    check_pass(
        LegalizeShapeGathers(),
        graph("s = Shape (x)  y = Gather (s, i)", "int64[1] i = {2}"),
        graph(
            "s = Shape (x)  y_size = Gather <axis = 0> (s, y_index)  y = Unsqueeze (y_size, y_sizes_axes)",
            "int64 y_index = {2}, int64[1] y_sizes_axes = {0}",
        ),
    )


def test_an_index_from_the_end_and_sizes_that_were_computed_with() -> None:
    body = "s = Shape (x)  t = Mul (s, k)  y = Gather (t, i)"
    check_pass(LegalizeShapeGathers(), graph(body, "int64[1] i = {-1}, int64[4] k = {1, 2, 3, 4}"), None)


@pytest.mark.parametrize(
    ("body", "constants", "y"),
    [
        ("s = Shape (x)  y = Gather (s, i)", "int64 i = {2}", "int64 y"),
        ("s = Shape (x)  y = Gather (s, i)", "int64[2] i = {2, 3}", "int64[K] y"),
        ("s = Shape (x)  y = Gather (s, j)", "int64 unused = {0}", "int64[K] y"),
        ("y = Gather (v, i)", "int64[1] i = {2}", "int64[K] y"),
        ("y = Gather (x, i)", "int64[1] i = {0}", "float[1,2,H,W] y"),
    ],
)
def test_numbers_several_indices_and_other_data_stay(body: str, constants: str, y: str) -> None:
    check_untouched(LegalizeShapeGathers(), graph(body, constants, y), None)
