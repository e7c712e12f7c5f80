"""The models the README shows: segc's engines are as close to eager PyTorch as the plain export in the same runtime."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("mmseg")
pytest.importorskip("openvino")

TARGETS = ("onnxruntime", "openvino")


def load_benchmark() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "parity.py"
    spec = importlib.util.spec_from_file_location("segc_benchmark_parity", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look their module up
    spec.loader.exec_module(module)
    return module


BENCHMARK = load_benchmark()


def require_close(rows: list[Any]) -> None:
    assert [row.target for row in rows] == list(TARGETS)
    for row in rows:
        assert row.error <= 2e-4, row
        assert row.agreement >= 0.9995, row
        assert row.ratio <= 1.5, row
        assert row.margin_ratio is None or row.margin_ratio <= 2, row


QUICK = ("fastscnn", "fcn", "segformer")


def test_eight_models_are_shown() -> None:
    assert len(BENCHMARK.LIGHT) == 8


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in BENCHMARK.LIGHT]
)
def test_an_odd_size_is_as_close_as_the_plain_export(name: str) -> None:
    require_close(list(BENCHMARK.measure(name, (97, 129), TARGETS, "97x129")))


@pytest.mark.slow
@pytest.mark.parametrize("name", BENCHMARK.LIGHT)
def test_the_configs_own_crop_size_is_as_close_as_the_plain_export(name: str) -> None:
    require_close(list(BENCHMARK.measure(name, None, TARGETS, "crop")))
