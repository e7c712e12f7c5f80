"""The table of masks of files, `tools/equality.py`: a part of it, and that it tells what differs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.equality_sources import KINDS, Kind, Made
from tools import equality

QUICK = ("ONNX: Softmax", "ONNX: class map", "ONNX: side output first", "Python: predict of grey images")


def named(name: str) -> Kind:
    return next(kind for kind in KINDS if kind.name == name)


@pytest.mark.parametrize("name", QUICK)
def test_segment_gives_the_projects_own_masks(tmp_path: Path, name: str) -> None:
    line = equality.measure(named(name), ("onnxruntime",), tmp_path)
    assert line.fine and isinstance(line.equal["onnxruntime"], float) and line.classes > 1, line


def test_other_masks_and_refusals_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = named("ONNX: logits")

    def moved(folder: Path) -> Made:
        made = kind.make(folder)
        return replace(made, own=lambda file: np.roll(made.own(file), 3, axis=0))

    monkeypatch.setattr(equality, "KINDS", (replace(kind, make=moved),))
    out = tmp_path / "equality.md"
    assert equality.main(["--targets", "onnxruntime", "--out", str(out)]) == 1
    row = out.read_text().splitlines()[-1]
    assert row.startswith("| ONNX: logits | ") and row.count("%") == 1 and "100" not in row
    refused = equality.Line("x", 2, {"ncnn": "ncnn cannot run this"})
    assert refused.fine and "refused: ncnn cannot run this" in equality.page([refused], ["ncnn"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_line_of_the_table(tmp_path: Path, kind: Kind) -> None:
    line = equality.measure(kind, equality.TARGETS, tmp_path)
    assert line.fine, line
