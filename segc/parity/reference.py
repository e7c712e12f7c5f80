"""The reference of the parity gate: eager PyTorch, or ONNX Runtime on the source file."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from segc.frontend.model import Source
from segc.frontend.quiet import quiet
from segc.frontend.remembered import RememberedModule
from segc.isolation import native
from segc.parity import kept_reference
from segc.parity.kept_reference import session_of


def reference_of(source: Source) -> Callable[[np.ndarray], np.ndarray]:
    """A function from float32 (N, C, H, W) to the logits of the unmodified source: no rewrites, no passes."""
    if isinstance(source.module, RememberedModule):
        return source.module.run
    return _torch(source) if source.module is not None else _onnx(source)


def _torch(source: Source) -> Callable[[np.ndarray], np.ndarray]:
    import torch

    module = source.module
    assert module is not None

    def run(x: np.ndarray) -> np.ndarray:
        with quiet(), torch.no_grad():  # mmseg warns about each resize of odd size
            logits: np.ndarray = module(torch.from_numpy(x)).numpy()
        return logits

    return run


def _in_child(source: Source, key: str) -> Callable[[np.ndarray], np.ndarray]:
    assert source.onnx_model is not None
    if not native.call(kept_reference.has, key):
        native.call(kept_reference.load, key, source.onnx_model.SerializeToString())
    return lambda x: np.asarray(native.call(kept_reference.run, key, x))


def _onnx(source: Source) -> Callable[[np.ndarray], np.ndarray]:
    assert source.onnx_model is not None
    if native.is_guarded():
        return _in_child(source, source.info.sha256)
    return session_of(source.onnx_model.SerializeToString()).run
