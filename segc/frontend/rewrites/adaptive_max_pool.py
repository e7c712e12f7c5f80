"""Adaptive maximum pooling in operators that ONNX has; the exporter supports only adaptive average pooling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

Side = Any  # int, or torch.SymInt while tracing with symbolic sizes


def windows_of_either_size(original: Callable[..., Any]) -> Callable[..., Any]:
    """`F.adaptive_max_pool2d` as max_pool2d where the windows are equal, otherwise as one maximum per window.

    Window i of n over a side of s cells is [floor(i s / n), ceil((i + 1) s / n)), as in torch. Calls that want indices,
    or an output size that depends on the input, go to `original`.
    """

    def pool(x: torch.Tensor, output_size: Any, return_indices: bool = False) -> Any:
        sizes = [output_size] * 2 if isinstance(output_size, int) else list(output_size)
        if return_indices or not all(size is None or type(size) is int for size in sizes):
            return original(x, output_size, return_indices)
        counts = [side if size is None else size for size, side in zip(sizes, x.shape[-2:], strict=True)]
        equal_windows = all(
            isinstance(side, int) and isinstance(count, int) and count > 0 and side % count == 0
            for side, count in zip(x.shape[-2:], counts, strict=True)
        )
        if equal_windows:
            kernel = tuple(side // count for side, count in zip(x.shape[-2:], counts, strict=True))
            return F.max_pool2d(x, kernel, kernel)
        for axis, size in ((-2, sizes[0]), (-1, sizes[1])):
            if size is not None:
                x = _pooled(x, axis, size)
        return x

    return pool


def _pooled(x: torch.Tensor, axis: int, count: int) -> torch.Tensor:
    """The maximum of each of `count` windows along an axis."""
    side: Side = x.shape[axis]
    edges = [(i * side // count, ((i + 1) * side + count - 1) // count) for i in range(count)]
    return torch.stack([x.narrow(axis, start, stop - start).amax(axis) for start, stop in edges], axis)
