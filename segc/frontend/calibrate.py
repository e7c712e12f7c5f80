"""Random weights from a fixed seed, made usable: BatchNorm statistics are measured on noise, zeros become numbers,
residual branches are damped.

Without the first the activations of a deep net with default statistics explode. Without the second a branch that
training starts at zero (attention scaled by a gamma of 0, a position embedding) adds nothing, and every comparison is
blind to it. Without the third a deep residual net is chaotic: it amplifies a rounding error hundreds of times, and a
comparison measures the weights instead of the compiler.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

SEED = 0
_RESIDUAL = 0.25  # about what training leaves; initialization for training starts many of these at 0


def seed_everything() -> None:
    """Fix torch's generator before a model is built."""
    import torch

    torch.manual_seed(SEED)


def wake_zeros(model: nn.Module) -> list[str]:
    """Give every parameter that is zero throughout, but for biases, values from the seed. Returns their names.

    A scalar becomes a half, a vector ones (it scales channels), a weight keeps the size of what it multiplies, and
    anything else, as an embedding, is small.
    """
    import torch

    generator = torch.Generator().manual_seed(SEED)
    woken = []
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            last = name.rpartition(".")[2]
            if last.endswith("bias") or not parameter.is_floating_point() or parameter.any():
                continue
            woken.append(name)
            if parameter.ndim == 0 or parameter.numel() == 1:
                parameter.fill_(0.5)
            elif parameter.ndim == 1:
                parameter.fill_(1.0)
            else:
                std = parameter[0].numel() ** -0.5 if last == "weight" else 0.02
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)
    return woken


def damp_residuals(model: nn.Module) -> int:
    """Scale what every residual block adds to its input, by the last norm of its branch.

    Blocks of ResNet and its kin (ResNeXt, ResNeSt, HRNet), of DDRNet and PIDNet, and of ERFNet. With a scale of 1
    everywhere ResNet-101 makes 500 to 1,700 times as much of a relative change of its input, with this 35 to 50 times.
    Call it before the statistics are measured. Returns the number of blocks.
    """
    import torch

    scales = [scale for block in model.modules() if (scale := _scale_of_branch(block)) is not None]
    for scale in scales:
        torch.nn.init.constant_(scale, _RESIDUAL)
    return len(scales)


def _scale_of_branch(block: Any) -> torch.Tensor | None:
    """The weight of the norm that a residual block's branch ends in; None of any other module."""
    norm = None
    if hasattr(block, "downsample"):  # mmseg's and mmcv's spelling, of the identity where shapes are equal
        norms = [getattr(block, name, None) for name in ("norm3", "norm2")]
        convs = [getattr(block, name, None) for name in ("conv3", "conv2")]
        norm = next((n for n in (*norms, *(getattr(conv, "norm", None) for conv in convs)) if n is not None), None)
    elif hasattr(block, "convs_layers"):  # ERFNet
        norm = next((layer for layer in reversed(block.convs_layers) if hasattr(layer, "running_mean")), None)
    return getattr(norm, "weight", None)


def calibrate_batch_norm(model: nn.Module, shape: tuple[int, int], channels: int = 3, batches: int = 2) -> int:
    """Set the running statistics of every BatchNorm from `batches` of two noise images of `shape` (H, W): white noise,
    and noise with the large patches of photographs. With white noise alone a photograph is far outside of what was
    measured, above all after global pooling, and its activations grow until softmax picks one of all.

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
            white = torch.randn(1, channels, *shape, generator=generator)
            model(torch.cat([white, _patches(shape, channels, generator)]))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()
    return len(norms)


def _patches(shape: tuple[int, int], channels: int, generator: torch.Generator) -> torch.Tensor:
    """float32 (1, C, H, W) of variance 1: as much noise at every scale from the pixel to half the image."""
    import torch

    image, step = torch.zeros(1, channels, *shape), 1
    while step <= min(shape) // 2:
        coarse = torch.randn(1, channels, *(-(-side // step) for side in shape), generator=generator)
        image += torch.nn.functional.interpolate(coarse, size=shape, mode="bilinear", align_corners=False)
        step *= 2
    return image / image.std()
