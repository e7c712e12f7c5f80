"""`torch._shape_as_tensor` while tracing: a tensor that is being traced has no memory of its own to read sizes from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def sizes_of_a_traced_tensor(original: Callable[..., Any]) -> Callable[..., Any]:
    """The sizes as an int64 tensor; symbolic ones stay symbolic."""

    def shape(x: torch.Tensor) -> torch.Tensor:
        if all(type(size) is int for size in x.shape):
            return torch.tensor(list(x.shape), dtype=torch.int64)
        return torch.stack([torch.scalar_tensor(size, dtype=torch.int64) for size in x.shape])

    return shape
