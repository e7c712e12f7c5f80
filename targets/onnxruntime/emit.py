"""Emit an ONNX Runtime engine: the ONNX file itself."""

from __future__ import annotations

from pathlib import Path

import onnx

from segc.graph.external_weights import fits_one_file
from segc.targets.onnxruntime.runtime import FILE
from segc.targets.protocol import Emitted, Settings


def emit(model: onnx.ModelProto, directory: Path, settings: Settings) -> Emitted:
    """Write model.onnx, and model.onnx.data beside it where the weights do not fit one file."""
    del model.metadata_props[:]
    for key, value in sorted(settings.metadata.items()):
        model.metadata_props.add(key=key, value=value)
    if fits_one_file(model):
        (directory / FILE).write_bytes(model.SerializeToString(deterministic=True))
        return Emitted((FILE,))
    onnx.save_model(
        model, str(directory / FILE), save_as_external_data=True, location=f"{FILE}.data", size_threshold=1024
    )
    return Emitted((FILE, f"{FILE}.data"))
