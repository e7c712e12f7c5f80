"""One source for several targets: traced once, a table of results, and no target that stops another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import segc
from segc.compilation.request import Request
from segc.errors import LegalityError, SourceError, UsageError
from segc.frontend import trace
from tests.helpers.calls import refused
from tests.helpers.calls import segc as command_line
from tests.helpers.tiny_models import CONV, onnx_file

pytest.importorskip("openvino")
pytest.importorskip("ncnn")

TARGETS = ("onnxruntime", "openvino", "ncnn")
MODEL = """
import torch
from torch import nn
torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1))
meta = dict(shape=(16, 24))
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.py"
    path.write_text(MODEL)
    return path


def test_the_source_is_traced_once(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = trace.trace
    monkeypatch.setattr(trace, "trace", lambda *args, **kw: calls.append(args[1]) or real(*args, **kw))  # type: ignore[func-returns-value]
    said: list[str] = []
    request = Request(model, out=tmp_path / "b", threads=1)
    attempts = segc.compile_targets(request, TARGETS, progress=said.append)
    assert calls == [(1, 3, 16, 24)]
    assert [attempt.target for attempt in attempts] == list(TARGETS)
    for attempt in attempts:
        assert attempt.bundle is not None
        assert attempt.bundle.path == tmp_path / f"b-{attempt.target}"
        assert segc.load(attempt.bundle.path).manifest.target.name == attempt.target
    assert "ncnn: writing the ncnn engine" in said


def test_each_bundle_is_the_one_that_a_compile_of_its_own_makes(model: Path, tmp_path: Path) -> None:
    segc.compile_targets(Request(model, out=tmp_path / "b", threads=1), TARGETS)
    for target in TARGETS:
        alone = segc.compile(model, target=target, out=tmp_path / "alone", force=True, threads=1)
        together = segc.load(tmp_path / f"b-{target}").manifest
        assert together.files.keys() == alone.manifest.files.keys()
        engines = [name for name in together.files if name not in ("report.json",)]
        assert {n: together.files[n] for n in engines} == {n: alone.manifest.files[n] for n in engines}


def test_a_target_that_refuses_stops_no_other(tmp_path: Path) -> None:
    # ncnn has no Hardmax, and may not leave it to ONNX Runtime
    source = onnx_file(tmp_path, CONV.replace("y = Conv(x, w)", "h = Conv(x, w)  y = Hardmax <axis = 1> (h)"))
    request = Request(source, out=tmp_path / "b", hybrid=False)
    first, second = segc.compile_targets(request, ["ncnn", "onnxruntime"])
    assert first.bundle is None and isinstance(first.error, LegalityError)
    assert second.bundle is not None and second.error is None
    assert not (tmp_path / "b-ncnn").exists()


def test_on_the_command_line(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "b"
    done = command_line("compile", model, "--target", "onnxruntime, ncnn,ncnn", "-o", out, "--device", "cuda")
    refused(done, UsageError.exit_code, "none of the targets onnxruntime, ncnn has an option 'device'")
    done = command_line("compile", model, "--target", "onnxruntime,ncnn", "-o", out, "--set", "winograd=off")
    assert done.code == 0, done.err
    rows = [line.split("\t") for line in done.out.splitlines() if "\t" in line]
    assert [row[:2] for row in rows[1:]] == [["onnxruntime", "ok"], ["ncnn", "ok"]]
    assert rows[1][-1] == f"{out}-onnxruntime"
    again = command_line("compile", model, "--target", "onnxruntime,ncnn", "-o", out, "--json")
    found = json.loads(again.out)
    assert again.code == 8 and [each["code"] for each in found] == ["SEGC-F104", "SEGC-F104"]  # they are there already


def test_what_no_target_can_compile_is_said_once(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no file or zoo config"):
        segc.compile_targets(Request("nowhere"), TARGETS)
    with pytest.raises(UsageError, match="there is no target 'opnvino'"):
        segc.compile_targets(Request("nowhere"), ["onnxruntime", "opnvino"])
    with pytest.raises(UsageError, match="no target is named"):
        segc.compile_targets(Request("nowhere"), [])
