"""The part of a segmentor that is compiled: normalised image in, logits out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from segc.frontend.model import Source
from segc.frontend.torch_tail import Asked, Found, Reader, Watch, sizes_of


class _Size(tuple[Any, ...]):
    """A size that is copied by reference: mmengine copies what it knows of an image, and symbols cannot be copied."""

    def __deepcopy__(self, _memo: object) -> _Size:
        return self


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
        size = _Size(x.shape[2:])
        meta = {"ori_shape": size, "img_shape": size, "pad_shape": size, "padding_size": [0, 0, 0, 0]}
        images = x.shape[0] if isinstance(x.shape[0], int) else 1  # a symbol while a batch of any size is traced
        logits: torch.Tensor = self._encode_decode(x, [dict(meta) for _ in range(images)])
        return logits


class PlainLogits(nn.Module):
    """Any module that returns a map of classes in one form or another; see segc.frontend.torch_tail.

    forward: float32 (N, C, H, W) -> float32 (N, channels, H, W), logits.
    """

    def __init__(self, module: nn.Module, asked: Asked = Asked()) -> None:  # noqa: B008 - it is frozen
        super().__init__()
        self.module = module
        self.reader = Reader(asked)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of a batch. Raises NotLogitsError when the module returns nothing that looks like them."""
        with Watch() as watch:
            output = self.module(x)
        size = sizes_of(x)
        return self.reader.logits(output, watch, (size[2], size[3]))

    @property
    def found(self) -> Found:
        """What the output of the last run was."""
        return self.reader.found


class GrownLogits(PlainLogits):
    """Logits at the size of the input, for masks that the engine makes."""

    def __init__(self, plain: PlainLogits) -> None:
        nn.Module.__init__(self)
        self.plain = plain

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of a batch, resized bilinearly."""
        return functional.interpolate(self.plain(x), size=x.shape[2:], mode="bilinear", align_corners=False)

    @property
    def found(self) -> Found:
        """What the output of the last run was."""
        return self.plain.found


def grown(source: Source) -> Source:
    """The source with logits at the size of its input."""
    assert isinstance(source.module, PlainLogits)
    return replace(source, module=GrownLogits(source.module).eval())
