"""The reference shows explained parameters as a list, and leaves other text alone."""

from __future__ import annotations

import pytest

pytest.importorskip("griffe")

from tools.docstrings import listed

TEXT = """Compile it.

shape: (height, width) in pixels,
one for all. out: the folder; force: replace it.
Raises SegcError."""


def test_names_become_items_and_what_is_raised_a_paragraph() -> None:
    assert listed(TEXT, ["shape", "out", "force"]) == (
        "Compile it.\n\n- `shape`: (height, width) in pixels, one for all.\n- `out`: the folder;\n"
        "- `force`: replace it.\n\nRaises SegcError."
    )


def test_several_names_share_a_meaning() -> None:
    assert listed("height, width: in pixels.", ["height", "width"]) == "- `height, width`: in pixels."


@pytest.mark.parametrize("text", ["Note: not a name.", "In the shape: no start.", "    shape: an indented table", ""])
def test_other_text_is_left_alone(text: str) -> None:
    assert listed(text, ["shape"]) == text
    assert listed(text, []) == text
