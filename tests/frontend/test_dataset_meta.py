"""Classes and palettes of any type: checked values come out, or a note that says why none do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segc.frontend.dataset_meta import DatasetMeta, read

NAMES = ("a", "b")
COLOURS = ((1, 2, 3), (0, 0, 255))
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.complex_numbers(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


@pytest.mark.parametrize(
    "palette",
    [COLOURS, [[1, 2, 3], [0, 0, 255]], np.array(COLOURS), np.array(COLOURS, np.float32), list(np.array(COLOURS))],
)
@pytest.mark.parametrize("classes", [NAMES, list(NAMES), np.array(NAMES)])
def test_lists_tuples_and_arrays_are_the_same(classes: object, palette: object) -> None:
    assert read(classes, palette, "it") == DatasetMeta(NAMES, COLOURS)


@pytest.mark.parametrize("classes", ["road", 5, [["a"]], {"a": 1}, [None], ["\ud800"], b"ab", [1.5]])
def test_classes_that_are_no_names_are_left_out(classes: object) -> None:
    found = read(classes, COLOURS, "the checkpoint")
    assert (found.classes, found.palette) == (None, None)
    assert "the classes of the checkpoint are not used" in found.notes[0]


@pytest.mark.parametrize(
    "palette",
    ["random", 7, [1, 2], [[1, 2, 3]], [[1, 2], [3, 4]], [[1, 2, 256], [0, 0, 0]], [[1, 2, "x"], [0, 0, 0]],
     [[1, 2, float("nan")], [0, 0, 0]], [[1.5, 2, 3], [0, 0, 0]], [[True, 2, 3], [0, 0, 0]], [None, None],
     np.zeros((2, 4)), np.array(["x", "y"]), np.array(3)],
)  # fmt: skip
def test_palettes_that_are_no_colours_are_left_out(palette: object) -> None:
    found = read(NAMES, palette, "the checkpoint")
    assert (found.classes, found.palette) == (NAMES, None)
    assert "the palette of the checkpoint is not used" in found.notes[0]


def test_without_them_nothing_is_said() -> None:
    assert read(None, COLOURS, "it") == DatasetMeta()
    assert read(NAMES, None, "it") == DatasetMeta(NAMES)


@given(ANYTHING, ANYTHING)
def test_anything_is_read(classes: object, palette: object) -> None:
    found = read(classes, palette, "it")
    assert found.palette is None or (found.classes is not None and len(found.palette) == len(found.classes))
