"""Group the configs of mmseg's zoo that describe the same model: many differ in training only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Neither the modules nor their seeded weights depend on these keys. The compile chooses sizes.
_TRAINING = frozenset({"loss_decode", "loss_cls", "train_cfg", "test_cfg", "sampler"})
_SIZES = frozenset({"size", "size_divisor"})


def same_models(configs: Mapping[str, Path]) -> dict[str, tuple[str, ...]]:
    """The name of the first config of each model, with the names of the other configs of that model.

    A config that cannot be read is a model of its own; opening it reports the error.
    """
    from segc.errors import SegcError

    first: dict[str, str] = {}
    groups: dict[str, list[str]] = {}
    for name, path in configs.items():
        try:
            digest = model_digest(path)
        except SegcError:
            digest = name
        groups.setdefault(first.setdefault(digest, name), []).append(name)
    return {name: tuple(n for n in names if n != name) for name, names in groups.items()}


def model_digest(path: Path) -> str:
    """The sha256 of the parts of a config that affect inference. Raises SourceError if the config cannot be read."""
    from segc.frontend.mmseg_config import read_config

    model = _inference(read_config(path).model)
    preprocessor = model.get("data_preprocessor")
    if isinstance(preprocessor, dict):
        model["data_preprocessor"] = {k: v for k, v in preprocessor.items() if k not in _SIZES}
    return hashlib.sha256(json.dumps(model, sort_keys=True).encode()).hexdigest()


def _inference(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _inference(v) for k, v in value.items() if k not in _TRAINING}
    if isinstance(value, (list, tuple)):
        return [_inference(v) for v in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else repr(value)
