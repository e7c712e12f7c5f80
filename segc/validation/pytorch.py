"""The source of a bundle in PyTorch, behind the same preprocessing, sliding window and resizes as an engine."""

from __future__ import annotations

from dataclasses import replace
from importlib import metadata
from typing import TYPE_CHECKING

from segc.bundle.manifest import Dynamic, Manifest, TargetInfo
from segc.bundle.preprocessing import Pad
from segc.frontend import torch_threads
from segc.frontend.model import ModelInfo, Source
from segc.frontend.source import open_source
from segc.parity.reference import reference_of
from segc.runtime.engine import Engine
from segc.runtime.sessions import Pool

if TYPE_CHECKING:
    import numpy as np

    from segc.validation.models import Models


def engine(models: Models, beside: Manifest) -> Engine:
    """The model as mmseg's own test pipeline runs it, in the inference mode of the bundle beside it.

    An ONNX file, which says nothing of preprocessing, gets that of the bundle. Raises what `open_source` raises.
    """
    assert models.source is not None
    opened = open_source(
        models.source, checkpoint=models.checkpoint, allow_mismatch=models.allow_mismatch, mode=beside.inference.mode,
        channels=beside.input.shape[1], skipped=models.skipped,
    )  # fmt: skip
    return Engine(_manifest(opened, beside), Pool([_Session(opened, models.threads)]), models.threads)


class _Session:
    """See segc.targets.protocol.Session."""

    def __init__(self, source: Source, threads: int) -> None:
        if source.module is not None:
            torch_threads.use(threads)
        self._reference = reference_of(source)

    def run(self, x: np.ndarray) -> np.ndarray:
        return self._reference(x)


def _manifest(source: Source, beside: Manifest) -> Manifest:
    output = replace(beside.output, kind="logits", dtype="float32", decode=None)
    taken = replace(beside.input, dtype="float32", layout="NCHW")
    preprocessing, name, version = beside.preprocessing, "ONNX Runtime", ""
    if source.module is not None:
        name, version = "PyTorch", metadata.version("torch")
        free = Dynamic(batch=(1, None), height=(1, None), width=(1, None), divisor=1)
        taken = replace(taken, shape=(None, taken.shape[1], None, None), dynamic=free)
        preprocessing = replace(preprocessing, resize=None, steps=source.info.chain or None, pad=_pad(source.info))
    made = TargetInfo(name=name, runtime=version)
    return replace(
        beside, target=made, precision="fp32", input=taken, output=output, preprocessing=preprocessing, segments=(),
    )  # fmt: skip


def _pad(info: ModelInfo) -> Pad:
    return Pad(size=info.pad_size, divisor=info.pad_divisor, value=info.pad_value, kept=info.pad_kept or None)
