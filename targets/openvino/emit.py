"""Emit an OpenVINO engine: the converted model, with its weights in float32.

INFERENCE_PRECISION_HINT says what the CPU plug-in computes in, on CPUs that have bfloat16; without it that is bfloat16.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from segc.errors import Code
from segc.graph.external_weights import fits_one_file
from segc.runtime.guard import runtime_errors
from segc.targets.openvino.precisions import HINTS
from segc.targets.openvino.runtime import FILES
from segc.targets.protocol import Emitted, Settings


def emit(model: onnx.ModelProto, directory: Path, settings: Settings) -> Emitted:
    """Convert the model and write model.xml and model.bin. Raises CompileError with OpenVINO's reason."""
    import openvino

    source = directory / "source.onnx"  # by way of a file: weights above 2 GB do not fit one message
    onnx.save_model(model, str(source), save_as_external_data=not fits_one_file(model), location="source.data")
    try:
        with runtime_errors("OpenVINO cannot convert the graph", Code.EMISSION):
            converted = openvino.Core().read_model(source)
            _name_by_position(converted)
            _inform_model_api(converted, settings.metadata)
            openvino.save_model(converted, directory / FILES[0], compress_to_fp16=False)
    finally:
        source.unlink(missing_ok=True)
        (directory / "source.data").unlink(missing_ok=True)
    return Emitted(FILES, {"INFERENCE_PRECISION_HINT": HINTS[settings.precision]})


def _name_by_position(model: Any) -> None:
    """Rename nodes that OpenVINO named by a process-wide counter, so that equal graphs give equal files."""
    for position, node in enumerate(model.get_ordered_ops()):
        if node.get_friendly_name() == node.get_name():
            node.set_friendly_name(f"{node.get_type_name()}/{position}")


def _inform_model_api(model: Any, metadata: Mapping[str, str]) -> None:
    """Write what OpenVINO's ModelAPI looks for, the keys "model_info NAME", into model.xml."""
    for key, value in sorted(metadata.items()):
        if key.startswith("model_info "):
            model.set_rt_info(value, key.split(" ", 1))
