"""Which pipelines compute wide convolutions by fewer products, and what a compile says of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

import segc
from segc.targets import get
from segc.targets.protocol import Settings

TARGETS = ["onnxruntime", "openvino"]
WIDE = """<ir_version: 10, opset_import: ["": 20]>
    g (float[1,352,24,32] x, float[352,352,3,3] w) => (float[1,352,24,32] y)
    { y = Conv <pads = [1, 1, 1, 1]> (x, w) }"""


def passes(target: str, settings: Settings) -> list[str]:
    plain = get(target)
    return [step.name for step in plain.configure(plain, settings).legalize]


@pytest.mark.parametrize("target", TARGETS)
def test_it_is_there_unless_it_is_refused(target: str) -> None:
    assert "winograd" in passes(target, Settings())
    assert "winograd" in passes(target, Settings(options={"winograd": "on"}))
    assert "winograd" not in passes(target, Settings(options={"winograd": "off"}))


def test_half_precision_does_without_it() -> None:
    assert "winograd" not in passes("onnxruntime", Settings(precision="fp16"))


@pytest.mark.parametrize("target", TARGETS)
def test_engines_of_both_kinds_compute_the_same(target: str, tmp_path: Path) -> None:
    """A compiled model of one wide convolution: other nodes, equal numbers but for rounding, files as large."""
    pytest.importorskip(target)
    rng = np.random.default_rng(0)
    model = onnx.parser.parse_model(WIDE)
    weights = rng.standard_normal((352, 352, 3, 3)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    del model.graph.input[1]
    onnx.save(model, tmp_path / "wide.onnx")
    bundles = [
        segc.compile(str(tmp_path / "wide.onnx"), target=target, options={"winograd": chosen}, out=tmp_path / chosen)
        for chosen in ("on", "off")
    ]
    x = rng.standard_normal((1, 352, 24, 32)).astype(np.float32)
    fast, plain = (next(iter(segc.load(bundle.path).run(x).values())) for bundle in bundles)
    assert 0 < np.abs(fast - plain).max() < 1e-5 * np.abs(plain).max()
    sizes = [sum(file.stat().st_size for file in bundle.path.glob("model.*")) for bundle in bundles]
    assert sizes[0] < 1.1 * sizes[1]
