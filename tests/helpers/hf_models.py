"""Small models of transformers, as folders with a configuration and an image processor; weights where asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from segc.frontend import torchvision_import
from segc.frontend.offline import offline

torchvision_import.prepare()
transformers = pytest.importorskip("transformers")

MADE: dict[str, Callable[[], tuple[Any, Any, Any]]] = {}


def _made(function: Callable[[], tuple[Any, Any, Any]]) -> Callable[[], tuple[Any, Any, Any]]:
    MADE[function.__name__] = function
    return function


@_made
def segformer() -> tuple[Any, Any, Any]:
    config = transformers.SegformerConfig(
        num_labels=5, depths=[1] * 4, hidden_sizes=[8, 16, 24, 32], decoder_hidden_size=16,
        num_attention_heads=[1, 2, 2, 2],
    )  # fmt: skip
    processor = transformers.SegformerImageProcessorPil(size={"height": 64, "width": 96})
    return transformers.SegformerForSemanticSegmentation, config, processor


@_made
def mask2former() -> tuple[Any, Any, Any]:
    backbone = transformers.SwinConfig(
        image_size=64, embed_dim=16, depths=[1] * 4, num_heads=[1, 2, 2, 4], window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = transformers.Mask2FormerConfig(
        backbone_config=backbone, feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=32,
        dim_feedforward=32, encoder_layers=1, decoder_layers=2, num_attention_heads=2, num_queries=6, num_labels=5,
    )  # fmt: skip
    processor = transformers.Mask2FormerImageProcessorPil(
        size={"shortest_edge": 64, "longest_edge": 128}, size_divisor=32
    )
    return transformers.Mask2FormerForUniversalSegmentation, config, processor


@_made
def eomt() -> tuple[Any, Any, Any]:
    config = transformers.EomtConfig(
        image_size=64, patch_size=8, hidden_size=32, num_hidden_layers=3, num_attention_heads=2, num_blocks=1,
        num_queries=6, num_labels=5, num_upscale_blocks=1,
    )  # fmt: skip
    processor = transformers.EomtImageProcessorPil(
        size={"shortest_edge": 64, "longest_edge": None}, do_split_image=True
    )
    return transformers.EomtForUniversalSegmentation, config, processor


def written(name: str, folder: Path, *, weights: bool = False, dtype: torch.dtype = torch.float32) -> Path:
    """A folder as `save_pretrained` writes it, without weights unless asked for."""
    made, config, processor = MADE[name]()
    config.architectures = [made.__name__]
    torch.manual_seed(3)
    with offline():
        if weights:
            made(config).to(dtype).save_pretrained(folder)
        else:
            config.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
