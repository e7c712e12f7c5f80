"""`segc report`: files that it reads and refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import segc
from segc.errors import BundleError, Code, FileError, SegcError, UsageError
from tests.helpers.calls import segc as command_line
from tests.helpers.tiny_models import CONV, onnx_file

LAYER = {"name": "a", "op": "Conv", "origin": "", "module": "", "ms": 1.0}
PROFILE = {"sha256": "0", "engine": "e", "method": "m", "total_ms": 1.0, "layers": [LAYER]}
CLASS = {"name": "a", "iou": 0.5}
COLUMN = {"name": "n", "engine": "e", "overall": {"m_iou": None, "classes": [CLASS]}}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    return segc.compile(onnx_file(folder, CONV), out=folder / "b").path


def test_the_command_prints_the_path(bundle: Path, tmp_path: Path) -> None:
    said = command_line("report", bundle, "-o", tmp_path / "r.html")
    assert (said.code, said.out.split()) == (0, ["report:", str(tmp_path / "r.html")])
    said = command_line("report", bundle, "-o", tmp_path / "r.html", "--json")
    assert json.loads(said.out) == {"report": str(tmp_path / "r.html")}
    assert "</html>" in (tmp_path / "r.html").read_text()


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "{}",
        "[1]",
        "[]",
        json.dumps([PROFILE]),
        json.dumps([{"profile": {**PROFILE, "total_ms": "1"}}]),
        json.dumps([{"profile": {**PROFILE, "layers": [{}]}}]),
    ],
)
def test_other_files_are_no_profiles(bundle: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "p.json").write_text(content)
    with pytest.raises(FileError) as refusal:
        segc.report(bundle, profile=[tmp_path / "p.json"], out=tmp_path / "r.html")
    assert refusal.value.code == Code.UNREADABLE and not (tmp_path / "r.html").exists()


@pytest.mark.parametrize(
    "value",
    [
        [], {"columns": [], "images": 1}, {"columns": [COLUMN], "images": True}, {"columns": [3], "images": 1},
        {"columns": [{**COLUMN, "overall": {"m_iou": "x", "classes": []}}], "images": 1},
        {"columns": [COLUMN, {**COLUMN, "overall": {"m_iou": 1, "classes": [CLASS, CLASS]}}], "images": 1},
    ],
)  # fmt: skip
def test_other_files_are_no_scores(bundle: Path, tmp_path: Path, value: Any) -> None:
    (tmp_path / "v.json").write_text(json.dumps(value))
    with pytest.raises(FileError) as refusal:
        segc.report(bundle, scores=[tmp_path / "v.json"], out=tmp_path / "r.html")
    assert refusal.value.code == Code.UNREADABLE


@pytest.mark.parametrize(
    ("asked", "kind"),
    [({"bundles": []}, UsageError), ({"bundles": ["nowhere"]}, BundleError), ({"scores": ["nowhere"]}, FileError)],
)
def test_what_is_not_there_is_refused(bundle: Path, tmp_path: Path, asked: Any, kind: type[SegcError]) -> None:
    with pytest.raises(kind):
        segc.report(**{"bundles": bundle, "out": tmp_path / "r.html", **asked})


def test_a_folder_is_not_replaced(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(FileError) as refusal:
        segc.report(bundle, out=tmp_path)
    assert refusal.value.code == Code.DESTINATION_TAKEN


def test_a_bundle_that_was_changed_is_refused(bundle: Path, tmp_path: Path) -> None:
    copy = segc.compile(onnx_file(tmp_path, CONV), out=tmp_path / "b").path
    (copy / "evidence.json").write_text("{}")
    with pytest.raises(BundleError):
        segc.report(copy, out=tmp_path / "r.html")
