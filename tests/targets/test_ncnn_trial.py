"""What fresh ncnn engines are tried on."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest

pytest.importorskip("ncnn")

from segc import ir
from segc.targets.ncnn.build import build
from segc.targets.ncnn.trial import noise


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
    graph = ir.from_model(
        onnx.parser.parse_model(
            f'<ir_version: 9, opset_import: ["" : 20]> g (float[{shape}] x) => (float[{shape}] y) {{ y = Relu (x) }}'
        )
    )
    ir.infer_shapes(graph)
    x = noise(build(graph))
    assert x.shape == tried and x.dtype == np.float32 and x.std() > 0.9
