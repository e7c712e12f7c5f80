from __future__ import annotations

import pytest

from segc.passes.legalize.inner_reductions import LegalizeInnerReductions
from tests.helpers.checks import HEAD, check_pass, check_untouched


def graph(body: str, size: str, result: str, kind: str = "float") -> str:
    return HEAD + f" g ({kind}[2,6,{size}] x) => ({kind}[{result}] y) {{ {body} }}"


@pytest.mark.parametrize("op", ["ReduceMean", "ReduceMin"])
@pytest.mark.parametrize("size", ["4,7", "5,5", "1,15", "3,21"])
def test_the_reduced_axis_goes_to_the_end(op: str, size: str) -> None:
    check_pass(
        LegalizeInnerReductions(),
        graph(f"y = {op} <axes = [1]> (x)", size, f"2,1,{size}"),
        graph(
            f"y_moved = Transpose <perm = [0, 2, 3, 1]> (x)  y_reduced = {op} <axes = [3], keepdims = 1> (y_moved)"
            "  y = Transpose <perm = [0, 3, 1, 2]> (y_reduced)", size, f"2,1,{size}",
        ),
        atol=1e-6,
    )  # fmt: skip


def test_without_its_axes_the_result_needs_no_second_transpose() -> None:
    check_pass(
        LegalizeInnerReductions(),
        graph("y = ReduceMean <axes = [0, 1], keepdims = 0> (x)", "4,7", "4,7"),
        graph(
            "y_moved = Transpose <perm = [2, 3, 0, 1]> (x)  y = ReduceMean <axes = [2, 3], keepdims = 0> (y_moved)",
            "4,7", "4,7",
        ),
        atol=1e-6,
    )  # fmt: skip


def test_a_sum_of_opset_13_has_its_axes_as_an_input() -> None:
    body = "axes = Constant <value = int64[1] {1}> ()  y = ReduceSum (x, axes)"
    check_pass(LegalizeInnerReductions(), graph(body, "4,7", "2,1,4,7"), None, atol=1e-6)


def test_unknown_sizes_may_be_any() -> None:
    check_pass(LegalizeInnerReductions(), graph("y = ReduceMean <axes = [1]> (x)", "H,W", "2,1,H,W"), None, atol=1e-6)


@pytest.mark.parametrize("size", ["4,6", "5,7", "8,8", "1,1", "3,4", "4,8"])
def test_sizes_that_are_right_stay(size: str) -> None:
    check_untouched(LegalizeInnerReductions(), graph("y = ReduceMean <axes = [1]> (x)", size, f"2,1,{size}"), None)


@pytest.mark.parametrize(
    ("body", "result", "kind"),
    [
        ("y = ReduceMax <axes = [1]> (x)", "2,1,4,7", "float"),
        ("y = ReduceMean <axes = [2, 3]> (x)", "2,6,1,1", "float"),
        ("y = ReduceMean <axes = [-1]> (x)", "2,6,4,1", "float"),
        ("y = ReduceMean (x)", "1,1,1,1", "float"),
        ("y = ReduceMean <axes = [1]> (x)", "2,1,4,7", "int64"),
    ],
)
def test_other_reductions_stay(body: str, result: str, kind: str) -> None:
    check_untouched(LegalizeInnerReductions(), graph(body, "4,7", result, kind), None)
