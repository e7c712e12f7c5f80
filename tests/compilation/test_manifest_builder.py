"""Notes on where `segment` cannot do what the source does."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from segc.bundle.preprocessing import CenterCrop, Gamma, ResizeStep
from segc.compilation.manifest_builder import resize_note, window_note
from segc.frontend.model import ModelInfo


def graph(height: Any, width: Any) -> gs.Graph:
    return gs.Graph(inputs=[gs.Variable("x", np.float32, (1, 3, height, width))])


def info(**values: Any) -> ModelInfo:
    return ModelInfo("mmseg", "m", "0", **values)


@pytest.mark.parametrize(("values", "said"), [
    ({"resize_scale": (64, 32), "keep_ratio": False}, None),
    ({"resize_scale": (64, 32), "keep_ratio": True}, "keeps their ratio"),
    ({"resize_scale": (32, 64), "keep_ratio": False}, "other sizes"),
    ({"steps": (ResizeStep(scale=(64, 32)), Gamma(gamma=2.0))}, None),
    ({"steps": (ResizeStep(scale=(64, 32)), CenterCrop(size=(9, 9)))}, "other sizes"),
    ({"resize_scale": (64, 32), "keep_ratio": False, "pad_divisor": 48}, "other sizes"),
    ({}, "leaves their size alone"),
])  # fmt: skip
def test_an_engine_of_one_size_says_what_it_cannot_follow(values: dict[str, Any], said: str | None) -> None:
    note = resize_note(info(**values), graph(32, 64))
    assert note is None if said is None else note is not None and said in note
    assert resize_note(info(**values), graph("H", "W")) is None


def test_a_window_that_images_may_be_smaller_than_says_so() -> None:
    slides = info(mode="slide", slide_crop=(32, 64), slide_stride=(16, 32))
    assert "smaller than the window 32x64" in (window_note(slides, graph(32, 64)) or "")
    assert window_note(slides, graph("H", "W")) is None
    assert window_note(info(), graph(32, 64)) is None
    large = info(mode="slide", slide_crop=(32, 64), slide_stride=(16, 32), resize_scale=(256, 64))
    assert window_note(large, graph(32, 64)) is None
