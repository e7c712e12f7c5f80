"""Damaged files of every kind: an answer or a refusal, never an exception of another kind, a crash or a hang.

`make soak` tries thousands of each kind; SEGC_MUTANTS=1000 changes the number here. A fault is named by its seed, and
`tests.helpers.mutants.tried(kind, seed, folder)` repeats it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.helpers.mutants import ATTEMPTS, campaign, tried

COUNT = int(os.environ.get("SEGC_MUTANTS", "120"))


@pytest.mark.parametrize("kind", ATTEMPTS)
def test_every_mutant_is_answered_or_refused(kind: str, tmp_path: Path) -> None:
    counts, faults = campaign(kind, range(COUNT), tmp_path)
    assert faults == []
    assert sum(counts.values()) == COUNT
    assert counts["ok" if kind == "image" else "refused"] > 0, counts


@pytest.mark.parametrize("seed", [1911, 2659, 2747, 3533])
def test_mutants_that_were_not_understood_once(seed: int, tmp_path: Path) -> None:
    """An axis that is not there to split, names that are no text, a map of 12 billion cells."""
    assert tried("onnx", seed, str(tmp_path)) in ("ok", "refused")
