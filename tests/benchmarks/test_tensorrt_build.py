"""benchmarks/tensorrt_build.py: a row for each engine, again only what is missing or failed, and what misses a goal."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.tiny_models import source

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "tensorrt_build.py"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True)


def module() -> Any:
    spec = importlib.util.spec_from_file_location("tensorrt_build", SCRIPT)
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_rows_are_made_once_and_failures_again(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings")
    path, rows = source(tmp_path), tmp_path / "rows.jsonl"
    asked = (path, "--precisions", "fp32", "--rows", rows)
    late = run(*asked, "--limit", "0.1")
    assert late.returncode == 1, late.stderr
    assert "did not finish within 0 s" in json.loads(rows.read_text())["failed"]
    done = run(*asked)
    assert done.returncode == 0, done.stdout + done.stderr
    row = json.loads(rows.read_text().splitlines()[1])
    assert row["engine_bytes"] > row["weight_bytes"] > 1000 and row["equal_bytes"] and row["build_s"] > 0
    assert row["agreement"] == 1.0
    again = run(*asked)
    assert json.loads(again.stdout)["rows"] == 1 and len(rows.read_text().splitlines()) == 2


def test_too_little_memory_costs_the_row_and_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings")
    done = run(source(tmp_path), "--precisions", "fp32", "--memory", "0.2")
    assert done.returncode == 1, done.stderr
    row = json.loads(done.stdout.splitlines()[0])
    assert "exit code" in row["failed"]


def test_a_row_that_fails_says_why(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings")
    done = run(tmp_path / "nowhere.py", "--precisions", "fp32")
    assert done.returncode == 1, done.stderr
    assert "nowhere.py" in json.loads(done.stdout.splitlines()[0])["failed"]


def test_what_misses_a_goal_is_named_with_its_figure() -> None:
    pytest.importorskip("onnx")
    about: dict[str, Any] = {"output": "logits", "size": None, "options": {}, "peak_mb": 1}
    rows: list[dict[str, Any]] = [
        {
            "source": "a",
            "precision": "fp32",
            "engine_bytes": 120,
            "weight_bytes": 100,
            "build_s": 7.0,
            "agreement": 1.0,
        },
        {"source": "a", "precision": "fp16", "engine_bytes": 90, "weight_bytes": 80, "build_s": 3.0, "agreement": 0.99},
        {
            "source": "b",
            "precision": "fp32",
            "engine_bytes": 101,
            "weight_bytes": 100,
            "build_s": 2.0,
            "agreement": 1.0,
        },
        {"source": "b", "precision": "fp16", "failed": "too dear"},
    ]
    found = module().summary([{**about, **row} for row in rows])
    assert found["failed"] == {"b fp16": "too dear"}
    assert found["median_build_s"] == {"fp16": 3.0, "fp32": 4.5}
    assert found["slower than 6.0 s"] == {"a fp32": 7.0}
    assert found["fp32 above 1.1 x weights"] == {"a": 1.2} and found["median_fp32_to_weights"] == 1.105
    assert found["fp16 above 0.6 x fp32"] == {"a": 0.75} and found["median_fp16_to_fp32"] == 0.75
    assert found["below 99.5% of equal pixels"] == ["a fp16"]
