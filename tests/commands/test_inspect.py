from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import onnx.parser
import pytest

import segc
from segc import targets
from segc.pipeline.pipeline import PipelineError

TEXT = """<ir_version: 9, opset_import: ["" : 17]>
g (float[1,3,8,8] x) => (float[1,3,8,8] y) { a = Relu (x)  y = Add (x, a) }"""


def test_what_targets_refuse_is_asked_behind_passes_in_a_checked_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx.save(onnx.parser.parse_model(TEXT), tmp_path / "net.onnx")
    assert segc.inspect(tmp_path / "net.onnx").content["refused_by"]["pplnn"] == []
    pplnn = targets.get("pplnn")
    monkeypatch.setattr(targets, "names", lambda: ["pplnn"])
    monkeypatch.setattr(targets, "get", lambda _: replace(pplnn, legalize=pplnn.legalize[::-1]))
    with pytest.raises(PipelineError, match="pplnn legalize"):
        segc.inspect(tmp_path / "net.onnx")
