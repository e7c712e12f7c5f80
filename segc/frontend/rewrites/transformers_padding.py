"""Padding in models of transformers, from symbolic sizes.

The library's functions branch on whether a side divides by a stride or a patch, so that a trace would be right only for
sizes with a remainder, or for one size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional


def padded_from_sizes(_original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """transformers' `apply_tf_padding(features, conv_layer)`, in arithmetic of the sizes."""

    def padded(features: torch.Tensor, conv_layer: Any) -> torch.Tensor:
        pads: list[Any] = []
        for axis in (1, 0):  # width first, as functional.pad takes them
            kernel, stride, dilation = (
                values[axis] for values in (conv_layer.kernel_size, conv_layer.stride, conv_layer.dilation)
            )
            along = _along(features.shape[axis - 2], kernel, stride)
            before = along // 2
            pads += [before * dilation, (along - before) * dilation]
        return functional.pad(features, pads, "constant", 0.0)

    return padded


def padded_to_patches(_original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """`maybe_pad` of Swin's patch embeddings: zeros up to whole patches, none where there is no remainder."""

    def padded(module: Any, pixel_values: torch.Tensor, height: Any, width: Any) -> torch.Tensor:
        high, wide = module.patch_size
        return functional.pad(pixel_values, (0, _missing(width, wide), 0, _missing(height, high)))

    return padded


def _missing(side: Any, patch: int) -> Any:
    """What a side lacks to whole patches; not `-side % patch`, which TensorRT does not know to be at least 0."""
    return (side + patch - 1) // patch * patch - side


def _along(side: Any, kernel: int, stride: int) -> Any:
    """How much a side grows: the kernel less the remainder of the side, where the stride stands for no remainder."""
    if stride == 1:
        return max(kernel - 1, 0)
    more = kernel - ((side - 1) % stride + 1)
    return more if kernel >= stride else torch.sym_max(more, 0)  # type: ignore[no-untyped-call]
