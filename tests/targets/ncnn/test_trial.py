"""What fresh ncnn engines are tried on."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest

pytest.importorskip("ncnn")

from segc.graph import ir
from segc.targets.ncnn.lower.lower_graph import lower_graph
from segc.targets.ncnn.net.net import Net
from segc.targets.ncnn.trial.inputs import noise, trial_inputs
from segc.targets.protocol import Images


def net_of(shape: str) -> Net:
    """A net of one layer that takes float[shape]."""
    graph = ir.from_model(
        onnx.parser.parse_model(
            f'<ir_version: 9, opset_import: ["" : 20]> g (float[{shape}] x) => (float[{shape}] y) {{ y = Relu (x) }}'
        )
    )
    ir.infer_shapes(graph)
    return lower_graph(graph)


@pytest.mark.parametrize(
    ("shape", "tried"),
    [
        ("1,3,H,W", (1, 3, 256, 256)),
        ("1,1,H,W", (1, 1, 256, 256)),
        ("1,64,H,W", (1, 64, 64, 64)),
        ("1,2048,H,W", (1, 2048, 32, 32)),
        ("1,3,97,W", (1, 3, 97, 256)),
        ("1,16,24,40", (1, 16, 24, 40)),
    ],
)
def test_maps_of_many_channels_are_smaller_than_images(shape: str, tried: tuple[int, ...]) -> None:
    x = noise(net_of(shape))
    assert x.shape == tried and x.dtype == np.float32 and x.std() > 0.9


def test_engines_of_images_are_tried_on_a_photograph_as_the_model_wants_it() -> None:
    """CGNet subtracts means and divides by nothing: its images are a hundred times as large as noise."""
    x, photograph = trial_inputs(net_of("1,3,97,129"), Images((72.4, 82.9, 73.2), (1.0, 1.0, 1.0), "RGB"))
    assert photograph.shape == x.shape == (1, 3, 97, 129)
    assert np.abs(x).max() < 6 and np.abs(photograph).max() > 100


@pytest.mark.parametrize("shape", ["1,64,8,8", "1,1,97,129"])
def test_other_maps_are_no_photographs(shape: str) -> None:
    assert len(trial_inputs(net_of(shape), Images((0.0,) * 3, (1.0,) * 3, "RGB"))) == 1


def test_without_the_models_wishes_noise_must_do() -> None:
    assert len(trial_inputs(net_of("1,3,97,129"), None)) == 1
