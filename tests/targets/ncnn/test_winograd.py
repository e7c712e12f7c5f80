"""WinogradConv's convolution in tiles of 6x6 is used where it is tried and found harmless."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx.parser
import pytest

pytest.importorskip("ncnn")

from segc.graph import ir
from segc.targets.ncnn.lower.lower_graph import lower_graph
from segc.targets.ncnn.target import NCNN
from segc.targets.ncnn.trial import winograd63
from segc.targets.ncnn.trial.winograd63 import FLAG, FLAG43, SUMS, eligible, results_agree
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


class Session:
    """An engine whose error is that of its tiles, in float64 steps; sums and tiles of 2x2 round apart."""

    errors: ClassVar[dict[str, float]] = {}
    started: ClassVar[list[str]] = []

    def __init__(self, _: str, __: Path, options: dict[str, bool], ___: int) -> None:
        tiles = "6x6" if options[FLAG] else "4x4" if options.get(FLAG43, True) else "2x2"
        self.kind = tiles if options.get(SUMS, True) else "sums"
        self.started.append(self.kind)

    def run(self, x: np.ndarray) -> np.ndarray:
        rng = np.random.default_rng(len(self.kind) + 7 * int(self.kind[0], 36))
        rounding = rng.standard_normal(x.shape) * self.errors[self.kind]
        result: np.ndarray = x + rounding
        return result

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("six", "four", "wanted"),
    [
        (1e-6, 1e-6, {FLAG: True}),
        (6e-6, 1e-6, {FLAG: False}),
        (6e-6, 3e-6, {FLAG: False, FLAG43: False}),
    ],
)
def test_the_largest_tiles_are_taken_that_cost_no_exactness(
    six: float, four: float, wanted: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = ir.from_model(conv(16, "pads = [1, 1, 1, 1]"))
    ir.infer_shapes(graph)
    net, x = lower_graph(graph), np.ones((1, 16, 24, 24))
    monkeypatch.setattr(winograd63, "IsolatedSession", Session)
    monkeypatch.setattr(Session, "errors", {"6x6": six, "4x4": four, "2x2": 1e-6, "sums": 1e-6})
    monkeypatch.setattr(Session, "started", [])
    assert winograd63.choose_tiles(net, Path(), {FLAG: False}, [x], 1, "measured") == wanted
    assert Session.started == ["sums", "2x2", "6x6", "4x4"][: 4 - wanted[FLAG]]
    assert winograd63.choose_tiles(net, Path(), {FLAG: False}, [x], 1, "off") == {FLAG: False, FLAG43: False}


def test_masks_are_compared_by_pixels() -> None:
    mask = np.arange(100, dtype=np.uint8).reshape(1, 10, 10)
    one, two = mask.copy(), mask.copy()
    one[0, 0, 0] = two[0, 1, :2] = 200
    assert winograd63._as_exact([mask], [one], [one]) and winograd63._as_exact([mask], [two], [one])
    assert not winograd63._as_exact([mask], [one], [two])


def test_the_options_reach_the_engine(tmp_path: Path) -> None:
    model = conv(16, "pads = [1, 1, 1, 1]")
    x = np.random.default_rng(1).standard_normal((1, 16, 24, 24)).astype(np.float32)
    results = []
    for chosen in ("on", "measured", "off"):
        (tmp_path / chosen).mkdir()
        emitted = NCNN.emit(model, tmp_path / chosen, Settings(options={"winograd": chosen}, threads=1))
        results.append(NCNN.load(tmp_path / chosen, emitted.options, 1).run(x))
        assert emitted.options[FLAG] is (chosen == "on")  # of one convolution, the larger tiles always round more
    assert 0 < np.abs(results[0] - results[2]).max() < 1e-5 * np.abs(results[2]).max()
