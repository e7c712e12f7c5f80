"""The table of masks of files, `tools/equality.py`: a part of it, and that it tells what differs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.equality_sources import Kind, Made
from tools import equality
from tools.equality import KINDS

QUICK = (
    "ONNX: Softmax", "ONNX: class map", "ONNX: side output first", "ONNX: weights in bfloat16",
    "Python: predict of grey images", "transformers: SegFormer",
)  # fmt: skip


def named(name: str) -> Kind:
    return next(kind for kind in KINDS if kind.name == name)


def require(kind: Kind) -> None:
    for module in kind.needs:
        pytest.importorskip(module)


@pytest.mark.parametrize("name", QUICK)
def test_segment_gives_the_projects_own_masks(tmp_path: Path, name: str) -> None:
    require(named(name))
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
    require(kind)
    line = equality.measure(kind, equality.TARGETS, tmp_path)
    assert line.fine, line
