"""A transformers model as a map from images to scores of classes, as its processor's post-processing makes them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional


class SemanticHead(nn.Module):
    """A model for semantic segmentation: its logits, mostly at a quarter of the image's size."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 (N, C, H, W) -> (N, classes, h, w)."""
        logits: torch.Tensor = self.model(pixel_values=x).logits
        return logits


class QueryHead(nn.Module):
    """A model of masks and their classes (MaskFormer, Mask2Former, EoMT, DETR): the sum of masks by class.

    size: the (height, width) that masks are resized to first, None for that of the masks.
    """

    def __init__(self, model: nn.Module, size: tuple[int, int] | None) -> None:
        super().__init__()
        self.model, self.size = model, size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 (N, C, H, W) -> (N, classes, h, w): scores, the largest of which decides."""
        outputs: Any = self.model(pixel_values=x)
        classes = outputs["class_queries_logits" if "class_queries_logits" in outputs else "logits"]
        masks = outputs["masks_queries_logits" if "masks_queries_logits" in outputs else "pred_masks"]
        if self.size is not None:
            masks = functional.interpolate(masks, size=self.size, mode="bilinear", align_corners=False)
        weights = classes.softmax(dim=-1)[..., :-1]
        return torch.einsum("bqc,bqhw->bchw", weights, masks.sigmoid())
