from __future__ import annotations

import numpy as np
import pytest

from segc.passes.inputs.fold_preprocessing import FoldPreprocessing
from segc.passes.legalize.unsigned_input import LegalizeUnsignedInput
from segc.passes.support import evaluate
from tests.helpers.checks import HEAD, HEAD20, check_pass, check_untouched, graph_of


def test_a_cast_behind_moves_comes_first() -> None:
    check_pass(
        LegalizeUnsignedInput(),
        HEAD
        + """g (uint8[1,4,5,3] x) => (float[1,3,4,5] y) <int64[3] bgr = {2, 1, 0}> {
            a = Transpose <perm = [0, 3, 1, 2]> (x)  b = Gather <axis = 1> (a, bgr)  y = Cast <to = 1> (b) }""",
        HEAD
        + """g (uint8[1,4,5,3] x) => (float[1,3,4,5] y) <int64[3] bgr = {2, 1, 0}> {
            y_wide = Cast <to = 1> (x)  a = Transpose <perm = [0, 3, 1, 2]> (y_wide)
            y = Gather <axis = 1> (a, bgr) }""",
    )


@pytest.mark.parametrize("rgb", [True, False])
def test_no_byte_is_moved_in_a_graph_that_takes_images(rgb: bool) -> None:
    graph = graph_of(HEAD20 + "g (float[1,3,6,7] x) => (float[1,3,6,7] y) { y = Abs (x) }")
    FoldPreprocessing(rgb=rgb).run(graph)
    image = np.random.default_rng(0).integers(0, 256, (1, 6, 7, 3)).astype(np.uint8)
    want = evaluate.outputs(graph, {"x": image})["y"]
    assert LegalizeUnsignedInput().run(graph).changes == 1
    assert [n.op for n in graph.nodes if any(t.dtype == np.uint8 for t in n.inputs)] == ["Cast"]
    np.testing.assert_array_equal(evaluate.outputs(graph, {"x": image})["y"], want)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("g (uint8[2,3] x) => (float[2,3] y) { y = Cast <to = 1> (x) }", None),
        ("g (float[2,3] x) => (int64[3,2] y) { a = Transpose (x)  y = Cast <to = 7> (a) }", None),
        ("g (float[2,3] x) => (float[3,2] y) { a = Cast <to = 2> (x)  b = Transpose (a)  y = Cast <to=1> (b) }", None),
        ("g (uint8[2,3] x) => (float[2,3] y) { a = Max (x, x)  y = Cast <to = 1> (a) }", None),
        (
            "g (uint8[2,3] x) => (float[3,2] y, uint8[3,2] a) { a = Transpose (x)  y = Cast <to=1> (a) }",
            "is also read elsewhere",
        ),
        (
            "g (uint8[2,3] x) => (float[3,2] y, uint8[3,2] b) { a = Transpose (x)  y = Cast <to=1> (a)  b = Max (a) }",
            "'a' is also read",
        ),
    ],
)
def test_what_is_no_moved_input_or_is_read_elsewhere_is_left_alone(text: str, reason: str | None) -> None:
    check_untouched(LegalizeUnsignedInput(), HEAD + text, reason)


def test_bytes_that_another_library_moves_stay_bytes() -> None:
    graph = graph_of(HEAD + "g (uint8[2,3] x) => (float[3,2] y) { a = Transpose (x)  y = Cast <to = 1> (a) }")
    graph.nodes[0].domain = "other"
    result = LegalizeUnsignedInput().run(graph)
    assert result.changes == 0 and graph.nodes[0].outputs[0].dtype == np.uint8
