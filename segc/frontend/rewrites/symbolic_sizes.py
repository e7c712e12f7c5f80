"""Keep sizes symbolic in `mmseg.models.utils.wrappers`, where `int()` would make them constants while tracing.

`resize` calls `int()` only for the text of a warning, `Upsample` to round `side * factor` down. `int()` of a symbolic
size makes it a constant, and the trace is then correct at one size only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def symbolic_int(original: Callable[..., int]) -> Callable[..., Any]:
    """`int` that keeps a symbolic int and truncates a symbolic float symbolically; other values go to `original`."""

    def convert(value: Any = 0) -> Any:
        if isinstance(value, torch.SymInt):
            return value
        return torch.sym_int(value) if isinstance(value, torch.SymFloat) else original(value)  # type: ignore[no-untyped-call]

    return convert


def upsampled_by_whole_factors(original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """mmseg's `Upsample.forward`, which passes integer factors on, so that they become constants of the graph."""

    def forward(module: Any, x: torch.Tensor) -> torch.Tensor:
        factor = module.scale_factor
        if module.size or not isinstance(factor, float) or not factor.is_integer():
            return original(module, x)
        return torch.nn.functional.interpolate(x, None, factor, module.mode, module.align_corners)

    return forward
