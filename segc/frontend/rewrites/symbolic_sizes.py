"""Sizes that stay symbolic in `mmseg.models.utils.wrappers`, where `int()` would freeze them while tracing.

`resize` converts sizes with `int()` only to word a warning, `Upsample` to round `side * factor` down. torch's `int()`
of a symbol makes it a constant: the trace is then right at one size alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def symbolic_int(original: Callable[..., int]) -> Callable[..., Any]:
    """`int` for numbers, which leaves a symbolic int as it is and truncates a symbolic float symbolically."""

    def convert(value: Any = 0) -> Any:
        if isinstance(value, torch.SymInt):
            return value
        return torch.sym_int(value) if isinstance(value, torch.SymFloat) else original(value)  # type: ignore[no-untyped-call]

    return convert


def upsampled_by_whole_factors(original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """mmseg's `Upsample.forward`; a whole factor is handed on, so that it is a constant of the graph."""

    def forward(module: Any, x: torch.Tensor) -> torch.Tensor:
        factor = module.scale_factor
        if module.size or not isinstance(factor, float) or not factor.is_integer():
            return original(module, x)
        return torch.nn.functional.interpolate(x, None, factor, module.mode, module.align_corners)

    return forward
