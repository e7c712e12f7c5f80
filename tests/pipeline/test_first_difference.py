"""Two states of a graph on the same input: where they part, and what cannot be compared."""

from __future__ import annotations

import numpy as np
import pytest

from segc.graph import ir
from segc.pipeline.first_difference import Snapshot, difference, first_difference
from tests.helpers.tiny_models import parsed

ONES = np.ones((2, 3), np.float32)


def snapshot(body: str) -> Snapshot:
    graph = ir.from_model(parsed(f"g (float[2,3] x) => (float[2,3] y) {{ {body} }}"))
    ir.infer_shapes(graph)
    return Snapshot.of(graph)


def test_the_largest_difference_is_named_with_its_place_and_share() -> None:
    found = difference("t", ONES * 4, ONES * 4 - np.array([[0, 0, 0], [0, 1, 0.5]], np.float32))
    assert found is not None
    assert (found.tensor, found.at, found.before, found.after, found.error) == ("t", (1, 1), 4, 3, 0.25)
    assert str(found) == "'t'[1, 1] was 4 and is 3; relative error 2.50e-01"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (ONES, ONES.copy()),
        (np.array([1, np.nan, np.inf]), np.array([1, np.nan, np.inf])),
        (ONES, np.ones((3, 2), np.float32)),
        (ONES, np.zeros((1,), np.float32)),
        (ONES, np.zeros((2, 3), np.float64)),
        (np.array(["a"]), np.array(["b"])),
    ],
    ids=["equal", "equal without being numbers", "another shape", "another size", "another type", "texts"],
)
def test_what_is_equal_or_no_number_of_the_same_kind_does_not_differ(before: np.ndarray, after: np.ndarray) -> None:
    assert difference("t", before, after) is None


def test_a_number_that_becomes_none_differs_without_bound() -> None:
    found = difference("t", ONES, np.where(ONES > 0, np.float32(np.nan), ONES))
    assert found is not None and found.error == np.inf


def test_the_first_tensor_that_means_the_same_and_differs_is_found() -> None:
    before = snapshot("a = Relu (x)  b = Neg (a)  y = Abs (b)")
    after = snapshot("a = Abs (x)  b = Neg (a)  y = Abs (b)")
    found = first_difference(before, after, {"x": -ONES}, 0.0)
    assert found is not None and found.tensor == "b"  # `a` has become another op, and may mean something else
    assert first_difference(before, after, {"x": ONES}, 0.0) is None


def test_graphs_without_a_common_tensor_are_not_compared() -> None:
    before, after = snapshot("y = Relu (x)"), snapshot("y = Relu (x)")
    after.model.graph.node[0].output[0] = after.model.graph.output[0].name = "z"
    assert first_difference(before, after, {"x": ONES}, 0.0) is None
