from __future__ import annotations

import numpy as np
import pytest

from segc.passes.masks.lower_resize_argmax_pairwise import LowerResizeArgMaxPairwise
from segc.passes.support import evaluate
from tests.helpers.checks import HEAD, HEAD20, check_pass, check_untouched, graph_of


def text(classes: int, head: str = HEAD, size: str = "{12, 14}", coordinates: str = "half_pixel") -> str:
    return head + (
        f"g (float[1,{classes},6,7] x) => (int64[1,1,12,14] y) <int64[2] size = {size}>"
        f'{{ y = segc.ResizeArgMax <coordinate_transformation_mode = "{coordinates}"> (x, size) }}'
    )


def test_planes_are_compared_one_by_one() -> None:
    check_pass(
        LowerResizeArgMaxPairwise(scratch=0),
        text(3),
        HEAD
        + """g (float[1,3,6,7] x) => (int64[1,1,12,14] y)
        <int64[4] y_sizes0 = {1, 3, 12, 14}, int64[3] y_ones0 = {1, 1, 1}, int32[1,1,1,1] y_class0 = {0},
        int32[1,1,1,1] y_class1 = {1}, int32[1,1,1,1] y_class2 = {2}> {
            y_large0 = Resize <mode = "linear", coordinate_transformation_mode = "half_pixel"> (x, , , y_sizes0)
            y_plane0, y_plane1, y_plane2 = Split <axis = 1> (y_large0, y_ones0)
            y_larger1 = Greater (y_plane1, y_plane0)
            y_index1 = Where (y_larger1, y_class1, y_class0)
            y_best1 = Max (y_plane0, y_plane1)
            y_larger2 = Greater (y_plane2, y_best1)
            y_index2 = Where (y_larger2, y_class2, y_index1)
            y = Cast <to = 7> (y_index2)
        }""",
    )


@pytest.mark.parametrize("coordinates", ["half_pixel", "align_corners", "pytorch_half_pixel"])
@pytest.mark.parametrize("classes", [2, 4, 5, 9, 11])
def test_groups_are_compared_last(classes: int, coordinates: str) -> None:
    graph = check_pass(
        LowerResizeArgMaxPairwise(whole=4, group=3, scratch=0), text(classes, HEAD20, coordinates=coordinates), None
    )
    assert sum(n.op == "Resize" for n in graph.nodes) == (1 if classes <= 4 else -(-classes // 3))
    assert not [n for n in graph.nodes if n.op == "ArgMax"]


@pytest.mark.parametrize("group", [2, 3, 9])
def test_the_first_of_equal_classes_wins_across_groups(group: int) -> None:
    plain, split = graph_of(text(7)), graph_of(text(7))
    assert LowerResizeArgMaxPairwise(whole=2, group=group, scratch=0).run(split).changes == 1
    x = np.random.default_rng(0).integers(0, 3, (1, 7, 6, 7)).astype(np.float32)
    want, got = (evaluate.outputs(g, {"x": x})["y"] for g in (plain, split))
    np.testing.assert_array_equal(got, want)


def test_open_sizes_are_resized_by_axes() -> None:
    graph = check_pass(
        LowerResizeArgMaxPairwise(whole=2, group=2),
        HEAD20
        + """g (float[N,5,H,W] x) => (int64[N,1,A,B] y) <int64[2] add = {3, 4}, int64[1] two = {2},
        int64[1] four = {4}> {
            s = Shape (x)  i = Slice (s, two, four)  size = Add (i, add)
            y = segc.ResizeArgMax <coordinate_transformation_mode = "half_pixel"> (x, size)
        }""",
        None,
    )
    assert all(list(n.attrs["axes"]) == [2, 3] for n in graph.nodes if n.op == "Resize")


@pytest.mark.parametrize(
    ("step", "body", "reason"),
    [
        (LowerResizeArgMaxPairwise(), text(3), "fit a cache"),
        (LowerResizeArgMaxPairwise(classes=4, scratch=0), text(5), "5 classes; at most 4"),
        (
            LowerResizeArgMaxPairwise(scratch=0),
            text(3).replace("[1,3,6,7]", "[1,C,6,7]"),
            "number of classes is unknown",
        ),
        (
            LowerResizeArgMaxPairwise(scratch=0),
            text(3).replace("[1,3,6,7]", "[1,3,H,W]"),
            "opset 17 has no Resize along axes",
        ),
    ],
)
def test_what_planes_do_not_pay_for_becomes_resize_and_argmax(
    step: LowerResizeArgMaxPairwise, body: str, reason: str
) -> None:
    graph = check_pass(step, body, None, skips=reason)
    assert [n.op for n in graph.nodes][-2:] == ["Resize", "ArgMax"]


def test_a_graph_without_the_op_is_left_alone() -> None:
    check_untouched(
        LowerResizeArgMaxPairwise(), HEAD + "g (float[N,3] x) => (int64[N,1] y) { y = ArgMax <axis = 1> (x) }", None
    )
