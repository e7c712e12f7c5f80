"""`segc inspect` shows the peak memory of activations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import onnx.parser

from segc.cli import main

TEXT = """<ir_version: 9, opset_import: ["" : 17]>
g (float[N,3,H,W] x) => (float[N,3,H,W] y) { a = Relu (x)  b = Neg (a)  y = Add (x, b) }"""


def inspected(path: Path, capsys: Any, *more: str) -> Any:
    assert main(["inspect", str(path), "--json", *more]) == 0
    return json.loads(capsys.readouterr().out)["activations"]


def test_a_dynamic_graph_needs_a_shape(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(onnx.parser.parse_model(TEXT), path)
    assert "--shape HxW" in inspected(path, capsys)["peak_mb"]
    found = inspected(path, capsys, "--shape", "100x200")
    assert found["peak_mb"] == 3 * 3 * 100 * 200 * 4 / 1e6
    assert found["at"] == "step 2 of 3, 'Neg/b'"
    assert [t["tensor"] for t in found["largest"]] == ["a", "b", "x"]


def test_a_shape_that_disagrees_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(onnx.parser.parse_model(TEXT.replace("N,3,H,W", "1,3,4,5")), path)
    assert main(["inspect", str(path), "--shape", "6x6"]) == 3


def test_a_bundle_shows_its_engine(tmp_path: Path, capsys: Any) -> None:
    import segc

    path = tmp_path / "net.onnx"
    onnx.save(onnx.parser.parse_model(TEXT), path)
    segc.compile(path, target="onnxruntime", shape=(8, 16), out=tmp_path / "bundle")
    found = inspected(tmp_path / "bundle", capsys)
    assert found["model.onnx"]["peak_mb"] > 0
