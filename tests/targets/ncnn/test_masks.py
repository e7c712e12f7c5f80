"""Masks made inside the engine: the lowest class of the largest logit, ties included."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx.parser
import pytest

pytest.importorskip("ncnn")

from segc.graph import ir
from segc.pipeline.stages import standard
from segc.targets.ncnn.target import NCNN
from segc.targets.protocol import Session, Settings


def mask_session(folder: Path, classes: int, precision: str = "fp32") -> Session:
    """Logits in, mask out: the graph is one Identity, so that the logits are ours to choose."""
    model = onnx.parser.parse_model(
        f"""<ir_version: 9, opset_import: ["" : 20]> g (float[1,{classes},16,24] x) => (float[1,{classes},16,24] logits)
        {{ logits = Identity(x) }}"""
    )
    graph = ir.from_model(model)
    ir.infer_shapes(graph)
    standard(NCNN, shape=(1, 16, 24), mask=True, simplify=False).run(graph)
    emitted = NCNN.emit(ir.to_model(graph), folder, Settings(precision))
    return NCNN.load(folder, emitted.options, 1)


def next_above(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.nextafter(x, np.float32(np.inf)))


@pytest.mark.parametrize("classes", [2, 16, 19, 150, 300])
def test_masks_equal_argmax_for_ties_neighbours_and_extremes(classes: int, tmp_path: Path) -> None:
    session = mask_session(tmp_path, classes)
    rng = np.random.default_rng(classes)
    shape = (1, classes, 16, 24)
    x = rng.standard_normal(shape).astype(np.float32)
    near = np.where(rng.random(shape) < 0.5, x[:, :1], next_above(x[:, :1])).astype(np.float32)
    for logits in (x, rng.integers(-2, 2, shape).astype(np.float32), near, np.zeros(shape, np.float32), x * 1e37):
        mask = session.run(logits)
        assert mask.dtype == (np.uint8 if classes <= 256 else np.uint16) and mask.shape == (1, 16, 24)
        np.testing.assert_array_equal(mask, logits.argmax(1))


def test_fp16_decides_equal_logits_as_fp32_does(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(-2, 2, (1, 19, 16, 24)).astype(np.float32)
    np.testing.assert_array_equal(mask_session(tmp_path, 19, "fp16").run(x), x.argmax(1))
