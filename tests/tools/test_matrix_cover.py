"""The cells of `make matrix-quick`: named in a file, and enough."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from segc import targets
from segc.passes.registry import REGISTRY
from segc.support_matrix import chosen_cells
from segc.support_matrix.cells import Job
from segc.support_matrix.families import FAMILIES
from tools import matrix_cover
from tools.matrix_cover import Place, Seconds

TABLE = json.loads(matrix_cover.TABLE.read_text(encoding="utf-8"))
ROWS: dict[str, dict[str, list[str]]] = TABLE["families"]
MINUTES = 3  # on two cores
KINDS = {" ".join((t, s, o)) for s, t, o in Job("", "", tuple(targets.names())).places()}


def chosen() -> list[Place]:
    found = chosen_cells.read(matrix_cover.CHOICE, FAMILIES, targets.names())
    return [
        (family, f"{target} {shape} {output}") for family, places in found.items() for shape, target, output in places
    ]


def test_the_cells_in_the_file_need_every_pass_that_any_cell_needs() -> None:
    missing = matrix_cover.all_needs(ROWS) - matrix_cover.all_needs(ROWS, chosen())
    assert missing == set(), "run tools/matrix_cover.py"


def test_they_cover_all_targets_shapes_and_outputs_in_a_few_minutes() -> None:
    assert {cell for _, cell in chosen()} == KINDS
    assert matrix_cover.measured_seconds().of(chosen()) < MINUTES * 60 * 2


def test_the_makefile_compiles_the_file() -> None:
    makefile = (matrix_cover.ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"QUICK := {matrix_cover.CHOICE.relative_to(matrix_cover.ROOT)}\n" in makefile
    assert "segc matrix --cells $(QUICK)" in makefile


def test_the_table_has_every_cell_and_the_passes_of_today() -> None:
    assert list(ROWS) == list(FAMILIES)
    assert {family: set(row) for family, row in ROWS.items()} == dict.fromkeys(FAMILIES, KINDS)
    assert TABLE["pipelines"] == matrix_cover.pipelines(), "tools/matrix_cover.py --measure"
    named = {name for row in ROWS.values() for names in row.values() for name in names}
    assert named - {matrix_cover.SPLIT} <= set(REGISTRY) and matrix_cover.SPLIT in named


def seconds(rows: matrix_cover.Rows, trace: float = 0.0, **cells: float) -> Seconds:
    places = [(family, cell) for family, row in rows.items() for cell in row]
    return Seconds(
        {(family, cell): cells[family] for family, cell in places},
        {matrix_cover.traced(place): trace for place in places},
    )


def families(rows: matrix_cover.Rows, cost: Seconds) -> list[str]:
    return [family for family, _ in matrix_cover.choose(rows, cost)]


def test_the_choice_is_the_cheapest_that_greed_finds() -> None:
    cell = "t static mask"
    rows = {"a": {cell: ["x", "y"]}, "b": {cell: ["y", "z"]}, "c": {cell: ["x", "y", "z"]}, "d": {cell: ["x"]}}
    assert families(rows, seconds(rows, a=1, b=1, c=9, d=1)) == ["a", "b"]
    assert families(rows, seconds(rows, a=5, b=5, c=6, d=5)) == ["c"]
    # b was the best buy at first, and a and d made it superfluous
    rows = {"a": {cell: ["w", "x"]}, "b": {cell: ["x", "y"]}, "d": {cell: ["y", "z"]}}
    assert families(rows, seconds(rows, a=4, b=2, d=4)) == ["a", "d"]


def test_cells_that_share_a_trace_are_cheaper_together() -> None:
    one, two = "t static mask", "u static mask"
    rows = {"a": {one: ["x"], two: ["x"]}, "b": {one: ["x"], two: ["x"]}}
    cost = Seconds(
        {("a", one): 1, ("a", two): 2, ("b", one): 3, ("b", two): 1.5}, {("a", "static"): 4, ("b", "static"): 4}
    )
    assert matrix_cover.choose(rows, cost) == [("a", one), ("a", two)]
    assert cost.of([("a", one), ("a", two)]) == 7
    assert cost.of([("a", one), ("b", two)]) == 10.5


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


def test_a_need_is_a_pass_or_an_output_of_a_target_with_sizes_of_a_kind() -> None:
    rows = {"f": {"t static mask": ["p", "q"]}}
    assert matrix_cover.needs(rows) == {
        ("f", "t static mask"): {("t static", "p"), ("t static", "q"), ("t static", "mask")}
    }
    assert json.loads(matrix_cover.written({"f": {"c": ["p"]}}))["families"] == {"f": {"c": ["p"]}}


def test_the_written_choice_is_read_back(tmp_path: Path) -> None:
    places = [("fcn", "ncnn static mask"), ("fcn", "openvino dynamic logits"), ("setr", "ncnn static mask")]
    (tmp_path / "cells.txt").write_text(matrix_cover.text_of(places))
    assert chosen_cells.read(tmp_path / "cells.txt", FAMILIES, targets.names()) == {
        "fcn": (("static", "ncnn", "mask"), ("dynamic", "openvino", "logits")),
        "setr": (("static", "ncnn", "mask"),),
    }
