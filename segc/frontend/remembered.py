"""A module that stands for one of an earlier run: it knows what that gave, and opens it where that is not enough."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class FoundBefore:
    """What the model's output turned out to be; see segc.frontend.torch_tail.Found."""

    threshold: float | None
    shifted: bool
    notes: tuple[str, ...]


@dataclass(frozen=True)
class RememberedModule:
    """kind: the name of the module's class. run: float32 (N, C, H, W) to its logits. real: the module itself."""

    kind: str
    found: FoundBefore | None
    run: Callable[[np.ndarray], np.ndarray]
    real: Callable[[], nn.Module]


def real_module(module: Any) -> Any:
    """The module itself. Cost: it is opened, where it is a remembered one."""
    return module.real() if isinstance(module, RememberedModule) else module


def kind_of(module: Any) -> str:
    """The name of the module's class."""
    return module.kind if isinstance(module, RememberedModule) else type(module).__name__
