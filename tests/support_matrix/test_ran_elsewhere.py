"""Results of engines that ran on another machine fill the cells whose engine does not run here."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from segc.cli import main
from segc.support_matrix import page, ran_elsewhere
from segc.support_matrix.cells import FAILED, OK, Cell

HERE = Cell(
    "fcn", "fcn_r18", "pplnn", "static", "logits", "emitted, not run", "no pyppl.nn here", 1e-6, 1.0, None,
    ("1x19x64x64",), {"export": 2.0, "passes": 0.1, "emit": 0.1}, graph="abc",
)  # fmt: skip
THERE = replace(
    HERE, status=OK, reason="", error=4e-5, agreement=0.9999, seconds={"export": 9.0, "passes": 0.1, "emit": 0.1}
)
WORDS = "ppl.nn 0.9 abcdef on 2026-11-27"


def content(*cells: Cell, **more: Any) -> dict[str, Any]:
    return {**page.to_json(cells, "segc matrix"), ran_elsewhere.KEY: {"pplnn": WORDS}, **more}


def merged(here: Cell, *there: Cell) -> Cell:
    return ran_elsewhere.merged([here], content(*there), there)[0]


def test_the_result_and_what_it_ran_with_are_taken() -> None:
    cell = merged(HERE, THERE)
    assert (cell.status, cell.error, cell.agreement, cell.ran_with) == (OK, 4e-5, 0.9999, WORDS)
    assert cell.seconds == HERE.seconds


def test_a_failure_there_is_a_failure_here() -> None:
    cell = merged(HERE, replace(THERE, status=FAILED, reason="SIGSEGV"))
    assert (cell.status, cell.reason, cell.good) == (FAILED, "SIGSEGV", False)


@pytest.mark.parametrize("changes", [{"graph": "other"}, {"graph": ""}, {"sizes": ("1x19x32x32",)}])
def test_of_another_graph_only_that_is_said(changes: dict[str, Any]) -> None:
    cell = merged(HERE, replace(THERE, **changes))
    assert (cell.status, cell.ran_with) == (HERE.status, "")
    assert cell.reason == f"no pyppl.nn here; the graph has changed since it ran with {WORDS}"


@pytest.mark.parametrize(
    ("here", "there"),
    [
        (replace(HERE, status=OK), THERE),
        (replace(HERE, status=FAILED), THERE),
        (HERE, replace(THERE, output="mask")),
        (replace(HERE, target="tensorrt"), replace(THERE, target="tensorrt")),
    ],
)
def test_nothing_else_is_taken(here: Cell, there: Cell) -> None:
    assert merged(here, there) == here


def test_the_page_says_what_it_ran_with() -> None:
    text = page.page_of(page.to_json([merged(HERE, THERE)], "segc matrix"))
    assert f"the engine for `pplnn` ran with {WORDS}" in text
    assert f"1 of 1 (1 ok, run with {WORDS})" in text
    assert "| fcn | ok elsewhere: 4e-05, 99.990% |" in text


def test_a_target_that_says_what_it_runs_on_is_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    from segc.targets import registry

    target = replace(registry.get("pplnn"), runs_on=lambda: "ppl.nn 0.9 abcdef")
    monkeypatch.setattr(registry, "get", lambda _: target)
    assert set(ran_elsewhere.ran_with([THERE])) == {"pplnn"}
    assert ran_elsewhere.ran_with([THERE])["pplnn"].startswith("ppl.nn 0.9 abcdef on 2")
    assert ran_elsewhere.ran_with([HERE]) == {}
    assert ran_elsewhere.ran_with([replace(THERE, ran_with=WORDS)]) == {}


def test_a_file_that_is_no_result_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "results.json"
    file.write_text(json.dumps({"cells": 3}))
    assert main(["matrix", "--results", str(file)]) == 8
    assert "is not a result of segc matrix" in capsys.readouterr().err
