"""Which configs of mmseg's zoo describe the very same model: many differ only in how they train."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Neither the module tree nor its seeded weights depend on these; sizes are chosen by whoever compiles.
_TRAINING = frozenset({"loss_decode", "loss_cls", "train_cfg", "test_cfg", "sampler"})
_SIZES = frozenset({"size", "size_divisor"})


def same_models(configs: Mapping[str, Path]) -> dict[str, tuple[str, ...]]:
    """The first config of each model, by name, with the names of the others that build the same.

    A config that cannot be read stands alone: opening it says why.
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
    """sha256 of what a config says about its model in inference. Raises SourceError as opening the config does."""
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
