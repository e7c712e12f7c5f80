"""Random weights from a fixed seed, made usable: BatchNorm statistics are measured on noise.

Without that the activations of a deep net with default statistics explode and every comparison loses its meaning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

SEED = 0


def seed_everything() -> None:
    """Fix torch's generator before a model is built."""
    import torch

    torch.manual_seed(SEED)


def calibrate_batch_norm(model: nn.Module, shape: tuple[int, int], channels: int = 3, batches: int = 2) -> int:
    """Set the running statistics of every BatchNorm from `batches` of two noise images of `shape` (H, W).

    `model` maps (N, C, H, W) to logits; it is left in eval mode. Returns the number of layers calibrated.
    """
    import torch
    from torch.nn.modules.batchnorm import _BatchNorm

    norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    model.eval()
    if not norms:
        return 0
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches
        norm.train()
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for _ in range(batches):
            model(torch.randn(2, channels, *shape, generator=generator))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()
    return len(norms)
