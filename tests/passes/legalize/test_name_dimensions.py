from __future__ import annotations

from segc.passes.legalize.name_dimensions import NameDimensions
from tests.helpers.checks import HEAD, check_pass, check_untouched


def test_unknown_sizes_get_names() -> None:
    graph = check_pass(
        NameDimensions(), HEAD + " g (float[?,3,H,?] x) => (float[?,3,H,?] y) { y = Relu (x) }", None, changes=2
    )
    assert list(graph.inputs[0].shape) == ["x_dim0", 3, "H", "x_dim3"]


def test_known_sizes_are_left_alone() -> None:
    check_untouched(NameDimensions(), HEAD + " g (float[N,3,8,W] x) => (float[N,3,8,W] y) { y = Relu (x) }", None)
