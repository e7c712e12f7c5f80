"""Bundles small enough to write in a test: a 1x1 convolution whose class is the brightest channel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser

from segc.bundle.manifest import Manifest
from segc.bundle.store import write_bundle

CONTENT: dict[str, Any] = {
    "source": {"kind": "onnx", "name": "tiny", "sha256": "0" * 64, "weights": "source", "checkpoint": None},
    "target": {"name": "onnxruntime", "runtime": "1.32.0", "options": {}, "settings": {}},
    "precision": "fp32",
    "input": {
        "name": "x",
        "dtype": "float32",
        "layout": "NCHW",
        "shape": [None, 3, None, None],
        "dynamic": {"batch": [1, None], "height": [1, None], "width": [1, None], "divisor": 1},
    },
    "output": {"name": "y", "kind": "logits", "dtype": "float32", "channels": 3, "threshold": None, "decode": None},
    "preprocessing": {
        "channel_order": "RGB",
        "mean": [0.0, 0.0, 0.0],
        "std": [1.0, 1.0, 1.0],
        "resize": None,
        "pad": {"size": None, "divisor": None, "value": 0.0},
    },
    "inference": {"mode": "whole", "crop": None, "stride": None, "align_corners": False},
    "classes": ["red", "green", "blue"],
    "palette": [[255, 0, 0], [0, 255, 0], [0, 0, 255]],
    "model": {
        "num_classes": 3,
        "test_cfg": {"mode": "whole"},
        "rewrites": [],
        "top_k": False,
        "test_resize": {"scale": None, "keep_ratio": True},
    },
    "passes": [{"name": "simplify", "changes": 0}],
}

REPORT: dict[str, Any] = {
    "status": "ok", "status_kind": "ok", "status_reason": None, "parity": None, "hybrid": None, "graph": "",
    "ops": {"before": {"Conv": 1}, "after": {"Conv": 1}}, "passes": [], "skips": [], "notes": [],
    "timings": {"seconds": {}, "passes": {}, "pipeline": [], "decode": None, "peak_memory_mb": 1},
}  # fmt: skip

LOGITS = "y = Conv (x, w)"
MASK = "z = Conv (x, w)  best = ArgMax <axis = 1, keepdims = 0> (z)  y = Cast <to = 2> (best)"


def content(**changes: Any) -> dict[str, Any]:
    """The manifest's content with values replaced; `a__b=1` sets content["a"]["b"]."""
    import copy

    changed = copy.deepcopy(CONTENT)
    for dotted, value in changes.items():
        *path, last = dotted.split("__")
        part = changed
        for key in path:
            part = part[key]
        part[last] = value
    return changed


def manifest(**changes: Any) -> Manifest:
    return Manifest.from_content(content(**changes))


def model(body: str = LOGITS, shape: str = "N, 3, H, W") -> onnx.ModelProto:
    weights = ", ".join(map(str, np.eye(3).ravel().tolist()))
    kind = "uint8[M, H2, W2]" if "ArgMax" in body else "float[M, 3, H2, W2]"
    return onnx.parser.parse_model(f"""<ir_version: 9, opset_import: ["" : 20]>
        tiny (float[{shape}] x) => ({kind} y) <float[3, 3, 1, 1] w = {{{weights}}}> {{ {body} }}""")


def bundle(path: Path, body: str = LOGITS, shape: str = "N, 3, H, W", force: bool = False, **changes: Any) -> Path:
    """Write a bundle of `model` for ONNX Runtime."""
    with write_bundle(path, force=force) as staging:
        onnx.save(model(body, shape), staging.directory / "model.onnx")
        staging.manifest = manifest(**changes)
        staging.report = REPORT
    return path


class Recorder:
    """A Session made of a function that remembers the shapes it was called with."""

    def __init__(self, function: Callable[[np.ndarray], np.ndarray] = lambda x: x) -> None:
        self.function = function
        self.shapes: list[tuple[int, ...]] = []

    def run(self, x: np.ndarray) -> np.ndarray:
        assert x.flags.c_contiguous and x.dtype == np.float32
        self.shapes.append(x.shape)
        return self.function(x)


def photograph(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Dead leaves: discs of all sizes over one another, with some noise, uint8 (H, W, 3)."""
    import cv2

    rng = np.random.default_rng(seed)
    image = np.zeros((height, width, 3), np.uint8)
    for _ in range(400):
        radius = int(min(height, width) * 0.4 * rng.random() ** 3) + 1
        centre = int(rng.integers(width)), int(rng.integers(height))
        cv2.circle(image, centre, radius, rng.integers(0, 256, 3).tolist(), -1)
    noise = rng.normal(0, 4, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)
