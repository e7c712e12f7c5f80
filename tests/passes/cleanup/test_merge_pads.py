from __future__ import annotations

import pytest

from segc.passes.cleanup.merge_pads import MergePads
from tests.helpers.checks import HEAD, check_pass, check_untouched

CONSTANTS = """<int64[4] p = {0, 1, 0, 2}, int64[4] q = {1, 0, 0, 3}, int64[4] less = {0, -1, 0, 0}, float v = {2},
    float w = {3}>"""


def text(nodes: str, y: str = "float[A,B] y", x: str = "float[3,4] x", head: str = HEAD) -> str:
    return f"{head} g ({x}) => ({y}) {CONSTANTS} {{ {nodes} }}"


@pytest.mark.parametrize("tail", ["", ", v"])
def test_two_pads_with_one_value_are_one(tail: str) -> None:
    check_pass(
        MergePads(),
        text(f"a = Pad (x, p{tail})  y = Pad (a, q{tail})"),
        text(f"y = Pad (x, y_pads{tail})").replace("<int64[4] p", "<int64[4] y_pads = {1, 1, 0, 5}, int64[4] p"),
    )


def test_two_pads_that_repeat_the_edge_are_one() -> None:
    graph = check_pass(MergePads(), text('a = Pad <mode = "edge"> (x, p)  y = Pad <mode = "edge"> (a, q)'), None)
    assert [n.op for n in graph.nodes] == ["Pad"]


def test_pads_by_axis_are_added_where_they_belong() -> None:
    nodes = "a = Pad (x, e, , last)  y = Pad (a, e, , first)"
    whole = text(nodes, head=HEAD.replace("17", "18")).replace(
        "<int64[4] p", "<int64[2] e = {1, 2}, int64[1] last = {-1}, int64[1] first = {0}, int64[4] p"
    )
    graph = check_pass(MergePads(), whole, None)
    assert graph.nodes[0].inputs[1].values.tolist() == [1, 1, 2, 2]


@pytest.mark.parametrize(
    ("nodes", "y", "reason"),
    [
        ("a = Pad (x, p, v)  y = Pad (a, q, w)", "float[A,B] y", "Pads fill in 2.0, then 3.0"),
        ("a = Pad (x, p)  y = Pad (a, q, v)", "float[A,B] y", "Pads fill in 0.0, then 2.0"),
        ('a = Pad <mode = "edge"> (x, p)  y = Pad (a, q)', "float[A,B] y", "Pads are edge, then constant"),
        (
            'a = Pad <mode = "reflect"> (x, p)  y = Pad <mode = "reflect"> (a, less)',
            "float[A,B] y",
            "Pads are reflect, then reflect",
        ),
        ("a = Pad (x, p)  y = Pad (a, less)", "float[A,B] y", "a negative pad crops"),
        ("a = Pad (x, p)  y = Pad (a, q)  z = Neg (a)", "float[A,B] y, float[3,7] z", "'a' is also used elsewhere"),
        ("a = Pad (x, p)  y = Pad (a, q)", "float[A,B] y, float[3,7] a", "'a' is also used elsewhere"),
        ("a = Pad (x, i)  y = Pad (a, q)", "float[A,B] y", "the pads are not constant"),
        ("a = Pad (x, p, f)  y = Pad (a, q, f)", "float[A,B] y", "Pads fill in None"),
    ],
)
def test_pads_that_differ_stay_and_say_why(nodes: str, y: str, reason: str) -> None:
    check_untouched(MergePads(), text(nodes, y, "float[3,4] x, int64[4] i, float f"), reason)
