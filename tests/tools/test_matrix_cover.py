"""The families of `make matrix-quick`: named in the Makefile, and enough."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from segc import targets
from segc.passes.registry import REGISTRY
from segc.support_matrix.cells import Job
from segc.support_matrix.families import FAMILIES
from tools import matrix_cover

TABLE = json.loads(matrix_cover.TABLE.read_text(encoding="utf-8"))
ROWS: dict[str, dict[str, list[str]]] = TABLE["families"]
MINUTES = 6  # on two cores


def chosen() -> list[str]:
    makefile = (matrix_cover.ROOT / "Makefile").read_text(encoding="utf-8")
    (names,) = re.findall(r"^QUICK := (.*)$", makefile, flags=re.MULTILINE)
    return str(names).split()


def test_the_families_in_the_makefile_need_every_pass_that_any_family_needs() -> None:
    missing = matrix_cover.all_needs(ROWS) - matrix_cover.all_needs(ROWS, chosen())
    assert missing == set(), "take the choice of tools/matrix_cover.py into the Makefile"


def test_they_cover_all_targets_shapes_and_outputs_in_a_few_minutes() -> None:
    cells = {cell for cell, _ in matrix_cover.all_needs(ROWS, chosen())}
    assert cells == {" ".join((t, s, o)) for s, t, o in Job("", "", tuple(targets.names())).places()}
    seconds = matrix_cover.seconds_of()
    assert sum(seconds[family] for family in chosen()) < MINUTES * 60 * 2


def test_the_table_has_every_cell_and_the_passes_of_today() -> None:
    assert list(ROWS) == list(FAMILIES)
    cells = {" ".join((t, s, o)) for s, t, o in Job("", "", tuple(targets.names())).places()}
    assert {family: set(row) for family, row in ROWS.items()} == dict.fromkeys(FAMILIES, cells)
    assert TABLE["pipelines"] == matrix_cover.pipelines(), "tools/matrix_cover.py --measure"
    named = {name for _, name in matrix_cover.all_needs(ROWS)}
    assert named - {matrix_cover.SPLIT} <= set(REGISTRY) and matrix_cover.SPLIT in named


def test_the_choice_is_the_cheapest_that_greed_finds() -> None:
    rows = {"a": {"t": ["x", "y"]}, "b": {"t": ["y", "z"]}, "c": {"t": ["x", "y", "z"]}, "d": {"t": ["x"]}}
    assert matrix_cover.choose(rows, {"a": 1, "b": 1, "c": 9, "d": 1}) == ["a", "b"]
    assert matrix_cover.choose(rows, {"a": 5, "b": 5, "c": 6, "d": 5}) == ["c"]
    # b was the best buy at first, and a and d made it superfluous
    rows = {"a": {"t": ["w", "x"]}, "b": {"t": ["x", "y"]}, "d": {"t": ["y", "z"]}}
    assert matrix_cover.choose(rows, {"a": 3, "b": 2, "d": 3}) == ["a", "d"]


def test_a_row_says_which_passes_change_something_in_each_cell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from tests.helpers.tiny_models import source

    monkeypatch.setattr("segc.support_matrix.families.FAMILIES", {"net": str(source(tmp_path))})
    monkeypatch.setattr(targets, "names", lambda: ["onnxruntime"])
    row = matrix_cover.row_of("net")
    assert list(row) == [
        f"onnxruntime {shape} {output}" for shape in ("static", "dynamic") for output in ("logits", "mask")
    ]
    assert "append-argmax" in row["onnxruntime static mask"]
    assert "append-argmax" not in row["onnxruntime static logits"]


def test_a_need_is_a_pass_in_a_cell() -> None:
    assert matrix_cover.needs({"t static mask": ["p", "q"]}) == {("t static mask", "p"), ("t static mask", "q")}
    assert json.loads(matrix_cover.written({"f": {"c": ["p"]}}))["families"] == {"f": {"c": ["p"]}}
