"""The part of a segmentor that is compiled: normalised image in, logits out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn


class MmsegLogits(nn.Module):
    """An mmseg segmentor's `encode_decode`: logits at the size of its input, before any softmax.

    forward: float32 (N, C, H, W) -> float32 (N, channels, H, W).
    """

    def __init__(self, segmentor: nn.Module) -> None:
        super().__init__()
        self.segmentor = segmentor
        self._encode_decode: Callable[..., torch.Tensor] = segmentor.encode_decode  # type: ignore[assignment]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of a batch; the sizes handed on are those of the batch itself, as in slide inference."""
        size = x.shape[2:]
        meta = {"ori_shape": size, "img_shape": size, "pad_shape": size, "padding_size": [0, 0, 0, 0]}
        logits: torch.Tensor = self._encode_decode(x, [dict(meta)])
        return logits


class NotLogitsError(TypeError):
    """The model runs, but what it returns is not a map of logits."""


class PlainLogits(nn.Module):
    """Any module; of a dictionary the entry 'out' or 'logits' counts, of a sequence the first."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of a batch. Raises NotLogitsError when the module returns nothing that looks like them."""
        return pick_logits(self.module(x))


def pick_logits(output: Any) -> torch.Tensor:
    """The logits in what a segmentation model returns."""
    if isinstance(output, Mapping):
        output = next((output[k] for k in ("out", "logits") if k in output), next(iter(output.values()), None))
    if isinstance(output, (list, tuple)) and output:
        output = output[0]
    if not isinstance(output, torch.Tensor) or output.ndim != 4:
        found = (
            f"a tensor of shape {tuple(output.shape)}"
            if isinstance(output, torch.Tensor)
            else f"a {type(output).__name__}"
        )
        raise NotLogitsError(f"the model returned {found}; logits of shape (N, classes, H, W) are needed")
    return output
