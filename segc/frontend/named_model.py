"""What the named sources have in common: the packages they need, weights, and the Source made of a PyTorch model."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from segc.bundle.canonical_json import sha256_of
from segc.errors import Code, MissingPackageError
from segc.frontend import calibrate, torchvision_import
from segc.frontend.given import Given
from segc.frontend.model import ModelInfo, Notes, OnFiles, Source

if TYPE_CHECKING:
    from torch import nn

    from segc.frontend.checkpoint import Checkpoint

RANDOM = "no checkpoint was given: weights are RANDOM (fixed seed), the masks mean nothing"
_PREPARES = ("mean", "std", "channel_order", "scale")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def require(extra: str, *modules: str) -> None:
    """Check that the packages of an extra are there, and let them import. Raises MissingPackageError."""
    for module in ("torch", *modules):
        if importlib.util.find_spec(module) is None:
            raise MissingPackageError(
                f"{extra}: sources need packages that are not installed", code=Code.FRONTEND_MISSING,
                because=f"there is no module '{module}'", so=f"pip install 'segc[{extra}]'",
            )  # fmt: skip
    torchvision_import.prepare()
    calibrate.seed_everything()


def digest(**what: object) -> str:
    """The sha256 that a manifest records of a model that is made from names and numbers."""
    return sha256_of(json.dumps(what, sort_keys=True).encode())


def of_bytes(values: tuple[float, ...]) -> tuple[float, ...]:
    """A mean or std of values from 0 to 1, for values from 0 to 255."""
    return tuple(255.0 * value for value in values)


def source_of(
    info: ModelInfo, model: nn.Module, *, read: Checkpoint | None, allow_mismatch: bool, given: Given, notes: Notes,
    on_files: Callable[[ModelInfo], OnFiles | None],
) -> Source:  # fmt: skip
    """The Source of a model that was built with random weights, unless `info` says otherwise.

    read: a checkpoint, which becomes its weights.
    """
    from segc.frontend.checkpoint import load_into
    from segc.frontend.logits_model import PlainLogits
    from segc.frontend.torch_tail import Asked

    info = given.applied(info)
    logits = PlainLogits(model, Asked(given.output_name, given.output_values, len(info.classes))).eval()
    if read is None and info.checkpoint is None:
        notes.add(RANDOM)
        info = replace(info, weights="random")
        calibrate.make_usable(logits, info.shape, info.in_channels)
    elif read is not None:
        notes.add(*narrow_note(read), *load_into(model, read, allow_mismatch=allow_mismatch).notes())
        info = replace(info, weights="checkpoint", checkpoint=read.record())
    if own := [f"--{name.replace('_', '-')}" for name in _PREPARES if getattr(given, name) is not None]:
        notes.add(f"{' and '.join(own)}: images are prepared as you say, and not compared with the source's own way")
        return Source(info, logits, notes=tuple(notes))
    return Source(info, logits, notes=tuple(notes), on_files=on_files(info))


def narrow_note(read: Checkpoint) -> list[str]:
    """A sentence where a checkpoint has half precision."""
    from segc.frontend.torch_tail import NARROW

    narrow = sorted({str(value.dtype)[6:] for value in read.state.values() if value.dtype in NARROW})
    return [f"the weights are in {' and '.join(narrow)}: the engine computes with their values in float32"] * bool(
        narrow
    )


def read_weights(checkpoint: str | Path | None) -> Checkpoint | None:
    """The checkpoint, if one was given. Raises FileError, CheckpointError."""
    if checkpoint is None:
        return None
    from segc.frontend.checkpoint import read_checkpoint

    return read_checkpoint(checkpoint)
