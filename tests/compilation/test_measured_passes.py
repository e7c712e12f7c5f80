"""Winograd is kept or left out by what it costs this model, measured on the inputs of the gate."""

from __future__ import annotations

from pathlib import Path

import pytest

import segc
from segc.compilation import measured_passes
from segc.compilation.measured_passes import FLOOR, Errors
from segc.errors import CompileError, ParityError

# One wide convolution. BIAS: large ones are lost again in the norm, and most digits of the first layer with them.
MODEL = """
import torch
from torch import nn
torch.manual_seed(0)
first = nn.Conv2d(3, 352, 3, padding=1)
nn.init.constant_(first.bias, BIAS)
model = nn.Sequential(first, nn.InstanceNorm2d(352), nn.Conv2d(352, 352, 3, padding=1), nn.Conv2d(352, 2, 1))
meta = dict(shape=(48, 64))
"""


def source(folder: Path, bias: float) -> Path:
    path = folder / "model.py"
    path.write_text(MODEL.replace("BIAS", str(bias)))
    return path


def fired(bundle: segc.Bundle) -> int:
    return sum(each["changes"] for each in bundle.report["passes"] if each["name"] == "winograd")


def test_it_is_kept_where_it_costs_little(tmp_path: Path) -> None:
    bundle = segc.compile(source(tmp_path, 1000), out=tmp_path / "b", max_error=1)
    assert fired(bundle) == 1
    assert not any("winograd" in note for note in bundle.report["notes"])
    assert "measure" in bundle.report["timings"]["seconds"]


def test_it_is_left_out_where_it_costs_much(tmp_path: Path) -> None:
    model = source(tmp_path, 0)
    bundle = segc.compile(model, out=tmp_path / "b", max_error=1)
    (note,) = [note for note in bundle.report["notes"] if note.startswith("winograd is left out")]
    assert "--set winograd=on keeps it" in note
    assert fired(bundle) == 0
    kept = segc.compile(model, out=tmp_path / "kept", options={"winograd": "on"}, max_error=1)
    assert fired(kept) == 1
    errors = [max(case["relative_error"] for case in each.report["parity"]["cases"]) for each in (bundle, kept)]
    assert errors[1] > 1.5 * errors[0]


def test_a_refusal_names_the_option(tmp_path: Path) -> None:
    with pytest.raises(ParityError, match="misses the parity limits") as error:
        segc.compile(source(tmp_path, 0), out=tmp_path / "b", options={"winograd": "on"}, max_error=1e-9)
    assert "--set winograd=off computes without the pass winograd" in str(error.value)


def test_without_a_gate_nothing_is_measured(tmp_path: Path) -> None:
    bundle = segc.compile(source(tmp_path, 0), out=tmp_path / "b", verify=False)
    assert fired(bundle) == 1 and "measure" not in bundle.report["timings"]["seconds"]


def test_an_onnx_file_is_measured_against_its_own_rounding(tmp_path: Path) -> None:
    """The reference is ONNX Runtime: the plain graph differs from it by nothing at all."""
    kept = segc.compile(source(tmp_path, 0), out=tmp_path / "kept", options={"winograd": "off"}, keep_onnx=True)
    bundle = segc.compile(kept.path / "final.onnx", out=tmp_path / "b")
    assert fired(bundle) == 0
    (note,) = [note for note in bundle.report["notes"] if note.startswith("winograd is left out")]
    assert "inf" not in note and "nan" not in note


def test_small_errors_are_never_dear() -> None:
    assert not Errors(fast=FLOOR, plain=FLOOR / 10).dear
    assert not Errors(fast=1.5e-5, plain=1e-5).dear
    assert Errors(fast=1.6e-5, plain=1e-5).dear
    assert Errors(fast=float("nan"), plain=1e-5).dear


def test_a_measurement_that_fails_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> float:
        raise CompileError("ONNX Runtime cannot load the graph")

    monkeypatch.setattr(measured_passes, "_error", refuse)
    bundle = segc.compile(source(tmp_path, 1000), out=tmp_path / "b", max_error=1)
    (note,) = [note for note in bundle.report["notes"] if "was not measured" in note]
    assert note.startswith("what winograd costs was not measured: ONNX Runtime cannot load the graph")
    assert fired(bundle) == 1
