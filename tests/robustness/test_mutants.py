"""Damaged files of every kind: an answer or a refusal, never an exception of another kind, a crash or a hang.

`make soak` tries thousands of each kind; SEGC_MUTANTS=1000 changes the number here. A fault is named by its seed, and
`tests.helpers.mutants.tried(kind, seed, folder)` repeats it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.helpers.mutants import ATTEMPTS, campaign

COUNT = int(os.environ.get("SEGC_MUTANTS", "120"))


@pytest.mark.parametrize("kind", ATTEMPTS)
def test_every_mutant_is_answered_or_refused(kind: str, tmp_path: Path) -> None:
    counts, faults = campaign(kind, range(COUNT), tmp_path)
    assert faults == []
    assert sum(counts.values()) == COUNT
    assert counts["ok" if kind == "image" else "refused"] > 0, counts
