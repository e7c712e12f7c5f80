"""The number of channels of a PyTorch model's input, where nothing says it."""

from __future__ import annotations

from collections.abc import Sized
from typing import TYPE_CHECKING

from segc.frontend.quiet import quiet

if TYPE_CHECKING:
    from torch import nn

_SIDE = 128  # divides by every usual stride


def input_channels(model: nn.Module, mean: object) -> int:
    """As many as the first convolution takes, if a mean says so too or, without one, the model runs on that alone.

    Else 3; without a convolution one for each number of the mean.
    """
    from torch import nn

    first = next((m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    if isinstance(mean, Sized):  # what else it may be is refused later
        return len(mean) if first in (None, len(mean)) else 3
    if first in (None, 3) or _runs(model, 3):
        return 3
    return first if first is not None and _runs(model, first) else 3


def _runs(model: nn.Module, channels: int) -> bool:
    import torch

    before = model.training
    try:
        like = next(model.parameters())
        with quiet(), torch.no_grad():
            model.eval()(torch.zeros(1, channels, _SIDE, _SIDE, dtype=like.dtype))
    except Exception:  # models may raise anything
        return False
    finally:
        model.train(before)
    return True
