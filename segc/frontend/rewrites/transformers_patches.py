"""Patches of transformers' MobileViTV2, cut out and put back by moving axes.

The library uses `unfold` and `fold`, which exporters write as gathers and as Col2Im: no runtime but ONNX Runtime takes
the latter. As patches do not overlap, both only order values anew:

    (N, C, h, w)  <->  (N, C, p * q, patches) for patches of p x q; rows and columns beyond whole patches become zeros
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

Size = tuple[Any, Any]  # height and width: ints or symbols


def cut_into_patches(_original: Callable[..., Any]) -> Callable[..., tuple[torch.Tensor, Size]]:
    """`MobileViTV2Layer.unfolding`: the patches (N, C, p * q, patches), and the (height, width) they come from."""

    def unfolding(layer: Any, feature_map: torch.Tensor) -> tuple[torch.Tensor, Size]:
        batch, channels, height, width = feature_map.shape
        high, wide = layer.patch_height, layer.patch_width
        rows, columns = height // high, width // wide
        whole = feature_map[:, :, : rows * high, : columns * wide]
        split = whole.reshape(batch, channels, rows, high, columns, wide).permute(0, 1, 3, 5, 2, 4)
        return split.reshape(batch, channels, high * wide, rows * columns), (height, width)

    return unfolding


def put_back(_original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """`MobileViTV2Layer.folding`: patches (N, C, p * q, patches) as a map of `output_size`."""

    def folding(layer: Any, patches: torch.Tensor, output_size: Size) -> torch.Tensor:
        batch, channels = patches.shape[:2]
        height, width = output_size
        high, wide = layer.patch_height, layer.patch_width
        rows, columns = height // high, width // wide
        split = patches.reshape(batch, channels, high, wide, rows, columns).permute(0, 1, 4, 2, 5, 3)
        whole = split.reshape(batch, channels, rows * high, columns * wide)
        return functional.pad(whole, (0, width - columns * wide, 0, height - rows * high))

    return folding
