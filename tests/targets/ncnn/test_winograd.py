"""WinogradConv's convolution in tiles of 6x6 is used where it is tried and found harmless."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx.parser
import pytest

pytest.importorskip("ncnn")

from segc.graph import ir
from segc.targets.ncnn.lower.lower_graph import lower_graph
from segc.targets.ncnn.target import NCNN
from segc.targets.ncnn.trial.winograd63 import FLAG, eligible, results_agree
from segc.targets.protocol import Settings


def conv(channels: int, attributes: str, kernel: int = 3) -> onnx.ModelProto:
    numbers = np.random.default_rng(0).standard_normal(channels * channels * kernel * kernel)
    weights = ", ".join(f"{number:.3f}" for number in numbers)
    shape = f"float[1,{channels},24,24]"
    return onnx.parser.parse_model(
        f"""<ir_version: 9, opset_import: ["" : 20]> g ({shape} x) => (float[1,{channels},A,B] y)
        <float[{channels},{channels},{kernel},{kernel}] w = {{{weights}}}> {{ y = Conv<{attributes}>(x, w) }}"""
    )


@pytest.mark.parametrize(
    ("channels", "attributes", "kernel", "could"),
    [
        (16, "pads = [1, 1, 1, 1]", 3, True),
        (4, "pads = [1, 1, 1, 1]", 3, False),
        (16, "strides = [2, 2]", 3, False),
        (16, "dilations = [2, 2]", 3, False),
        (16, "strides = [1, 1]", 1, False),
    ],
)
def test_only_nets_that_could_use_it_are_tried(
    channels: int, attributes: str, kernel: int, could: bool, tmp_path: Path
) -> None:
    model = conv(channels, attributes, kernel)
    graph = ir.from_model(model)
    ir.infer_shapes(graph)
    assert eligible(lower_graph(graph)) == could
    emitted = NCNN.emit(conv(channels, attributes, kernel), tmp_path, Settings())
    assert emitted.options[FLAG] == could  # a single convolution amplifies nothing


def test_it_is_off_where_it_moves_logits_or_pixels() -> None:
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((1, 5, 40, 50)).astype(np.float32)
    scale = np.abs(logits).max()
    assert results_agree(logits, logits) and results_agree(logits, logits + np.float32(1e-4) * scale)
    assert not results_agree(logits, logits + np.float32(2e-3) * scale)
    assert not results_agree(logits, logits * np.float32(np.nan))
    close = np.where(np.arange(5).reshape(1, 5, 1, 1) == 3, logits[:, 2:3] + 1e-7, logits)
    swapped = close[:, [0, 1, 3, 2, 4]]
    assert np.abs(close - swapped).max() < 1e-6 and not results_agree(close, swapped)
    mask = logits.argmax(1).astype(np.uint8)
    wrong = mask.copy()
    wrong[0, :2] = 9
    assert results_agree(mask, mask) and not results_agree(mask, wrong)
    assert results_agree(logits[:, :1], logits[:, :1])
