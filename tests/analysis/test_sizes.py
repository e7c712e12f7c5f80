from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from segc.analysis.sizes import estimate


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
        ("Max(1, H)", None),
        ("H/2", None),
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
