"""ONNX's own C++ on models: its checker, shape inference and inliner; in a child while a guard is up.

See segc.isolation.native. What crosses to the child and back are serialized models.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx.checker
import onnx.inliner
import onnx.shape_inference

from segc.isolation import native

CHECK_ERRORS = (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, native.NativeError)


def check_model(model: onnx.ModelProto, *, full: bool = False) -> None:
    """ONNX's checker. full: with strict shape inference. Raises one of CHECK_ERRORS, or ValueError."""
    if native.is_guarded():
        native.call(_check, model.SerializeToString(), full)
    else:
        onnx.checker.check_model(model, full_check=full)


def check_file(path: Path) -> None:
    """ONNX's checker with strict shape inference, for a file with its external data. Raises as `check_model`."""
    native.call(_check, str(path), True)


def infer_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the types and shapes that follow. Raises one of CHECK_ERRORS."""
    if native.is_guarded():
        return _parsed(native.call(_infer, model.SerializeToString()))
    inferred: onnx.ModelProto = onnx.shape_inference.infer_shapes(model, data_prop=True)
    return inferred


def inline_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without functions of its own. Raises one of CHECK_ERRORS."""
    if native.is_guarded():
        return _parsed(native.call(_inline, model.SerializeToString()))
    inlined: onnx.ModelProto = onnx.inliner.inline_local_functions(model)
    return inlined


def _parsed(content: bytes) -> onnx.ModelProto:
    model: onnx.ModelProto = onnx.ModelProto.FromString(content)
    return model


def _check(content: bytes | str, full: bool) -> None:
    onnx.checker.check_model(content, full_check=full)


def _infer(content: bytes) -> bytes:
    return bytes(onnx.shape_inference.infer_shapes(content, data_prop=True).SerializeToString())


def _inline(content: bytes) -> bytes:
    return bytes(onnx.inliner.inline_local_functions(onnx.ModelProto.FromString(content)).SerializeToString())
