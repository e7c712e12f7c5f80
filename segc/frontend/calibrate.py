"""Make a model with random weights usable for comparisons: reproducible, stable, and without dead branches.

- BatchNorm statistics are measured on noise; with default statistics the activations of a deep network explode.
- Parameters that are zero get values; a branch that starts at zero (attention scaled by a gamma of 0, a position
  embedding) contributes nothing, and no comparison would notice errors in it.
- Residual branches are scaled down; otherwise a deep residual network amplifies rounding errors hundreds of times, and
  a comparison would measure the weights instead of the compiler.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segc.errors import Code, ShapeError

if TYPE_CHECKING:
    import torch
    from torch import nn

SEED = 0
_SIZE = (256, 256)  # (height, width) of the noise
_RESIDUAL_SCALE = 0.25  # similar to trained networks; initialization for training starts many of these at 0


def seed_everything() -> None:
    """Seed torch's generator; to be called before a model is built."""
    import torch

    torch.manual_seed(SEED)


def make_usable(model: nn.Module, shape: tuple[int, int], channels: int) -> None:
    """All of it, with noise of `_SIZE` or, where the model rejects that, of `shape`. Raises ShapeError."""
    randomize_zeros(model)
    scale_residual_branches(model)
    for size in (_SIZE, shape):
        try:
            calibrate_batch_norm(model, size, channels)
            return
        except Exception as error:  # the model may reject the first size
            failure = error
    raise ShapeError(
        f"the model runs neither at {_SIZE} nor at its own size {shape}", code=Code.MODEL_SHAPE, because=str(failure)
    ) from failure


def randomize_zeros(model: nn.Module) -> list[str]:
    """Give nonzero values to every parameter that is all zeros, except biases. Returns the names of these parameters.

    A scalar becomes 0.5, a vector ones (it scales channels), a weight random values that keep the variance of its
    input, anything else, such as an embedding, small random values. The values depend on SEED only.
    """
    import torch

    generator = torch.Generator().manual_seed(SEED)
    changed = []
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            last = name.rpartition(".")[2]
            if last.endswith("bias") or not parameter.is_floating_point() or parameter.any():
                continue
            changed.append(name)
            if parameter.ndim == 0 or parameter.numel() == 1:
                parameter.fill_(0.5)
            elif parameter.ndim == 1:
                parameter.fill_(1.0)
            else:
                std = parameter[0].numel() ** -0.5 if last == "weight" else 0.02
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)
    return changed


def scale_residual_branches(model: nn.Module) -> int:
    """Scale down the branch of every residual block, in its last norm. Returns the number of blocks.

    It knows the blocks of ResNet and its variants (ResNeXt, ResNeSt, HRNet), of DDRNet and PIDNet, and of ERFNet. With
    scales of 1 ResNet-101 amplifies a relative change of its input 500 to 1,700 times, with these 35 to 50 times. To be
    called before `calibrate_batch_norm`.
    """
    import torch

    scales = [scale for block in model.modules() if (scale := _scale_of_branch(block)) is not None]
    for scale in scales:
        torch.nn.init.constant_(scale, _RESIDUAL_SCALE)
    return len(scales)


def _scale_of_branch(block: Any) -> torch.Tensor | None:
    """The weight of the last norm of a residual block's branch; None for any other module."""
    norm = None
    if hasattr(block, "downsample"):  # blocks of mmseg and mmcv have it, also where it is None
        norms = [getattr(block, name, None) for name in ("norm3", "norm2")]
        convs = [getattr(block, name, None) for name in ("conv3", "conv2")]
        norm = next((n for n in (*norms, *(getattr(conv, "norm", None) for conv in convs)) if n is not None), None)
    elif hasattr(block, "convs_layers"):  # ERFNet
        norm = next((layer for layer in reversed(block.convs_layers) if hasattr(layer, "running_mean")), None)
    return getattr(norm, "weight", None)


def calibrate_batch_norm(model: nn.Module, shape: tuple[int, int], channels: int = 3, batches: int = 2) -> int:
    """Set the running statistics of every BatchNorm from `batches` of two noise images of `shape` (H, W) each.

    One is white noise, the other has patches of all sizes, as photographs have. With white noise alone a photograph
    would be far from what was measured, most of all after global pooling, and its activations would grow until softmax
    saturates. `model` maps (N, C, H, W) to logits; it is left in eval mode. Returns the number of layers.
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
    """Noise of variance 1, float32 (1, C, H, W), of equal strength at every scale from a pixel to half the image."""
    import torch

    image, step = torch.zeros(1, channels, *shape), 1
    while step <= min(shape) // 2:
        coarse = torch.randn(1, channels, *(-(-side // step) for side in shape), generator=generator)
        image += torch.nn.functional.interpolate(coarse, size=shape, mode="bilinear", align_corners=False)
        step *= 2
    return image / image.std()
