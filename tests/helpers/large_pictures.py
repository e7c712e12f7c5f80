"""GeoTIFF files, and bundles whose windows matter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser

from segc.bundle.store import write_bundle
from tests.helpers.tiny_bundles import REPORT, manifest

# Sums of neighbours, padded with zeros: a pixel's class depends on where in a window it lies.
WINDOWED = "y = Conv <pads = [1, 1, 1, 1], kernel_shape = [3, 3]> (x, w)"
SLIDES: dict[str, Any] = {
    "inference": {"mode": "slide", "crop": [32, 40], "stride": [21, 27], "align_corners": False},
    "preprocessing__mean": [120.0, 110.0, 100.0],
    "preprocessing__std": [58.0, 57.0, 59.0],
}


def windowed_bundle(path: Path, **changes: Any) -> Path:
    """A bundle of a 3x3 convolution that slides, unless `changes` say otherwise."""
    weights = np.random.default_rng(1).standard_normal((3, 3, 3, 3)).astype(np.float32)
    net = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 20]> tiny (float[N, 3, H, W] x, float[3, 3, 3, 3] w)'
        f" => (float[N, 3, H, W] y) {{ {WINDOWED} }}"
    )
    del net.graph.input[1]
    net.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    with write_bundle(path, force=False) as staging:
        onnx.save(net, staging.directory / "model.onnx")
        staging.manifest = manifest(**SLIDES | changes)
        staging.report = REPORT
    return path


def geotiff(path: Path, image: np.ndarray, **settings: Any) -> Path:
    """uint8 (H, W, 3) BGR, or (H, W), as a tiled GeoTIFF with a place on Earth."""
    import rasterio

    bands = np.moveaxis(image[..., ::-1], 2, 0) if image.ndim == 3 else image[None]
    made = {
        "driver": "GTiff", "height": image.shape[0], "width": image.shape[1], "count": len(bands), "tiled": True,
        "dtype": image.dtype.name, "blockxsize": 64, "blockysize": 64, "compress": "deflate", "crs": "EPSG:32633",
        "transform": rasterio.transform.from_origin(400000.0, 5800000.0, 0.5, 0.5),
    } | settings  # fmt: skip
    with rasterio.open(path, "w", **made) as dataset:
        dataset.write(bands)
    return path
