"""How far eager PyTorch's own rounding goes: float32 against float64, the floor under every comparison."""

from __future__ import annotations

import numpy as np
from torch import nn

from segc.frontend.quiet import quiet
from segc.parity.difference import largest_difference


def own_error(module: nn.Module, x: np.ndarray) -> float | None:
    """Largest |float32 - float64| of the logits relative to the largest logit; None where it does not run in float64.

    x: float32 (N, C, H, W). The module is as it was afterwards, to the bit; one that is not all float32 is not asked.
    """
    import torch

    if any(t.is_floating_point() and t.dtype != torch.float32 for t in module.state_dict().values()):
        return None
    example = torch.from_numpy(x)
    with quiet(), torch.no_grad():
        single = module(example).double()
        try:
            double = module.double()(example.double())
        except Exception:  # a model may fix its types; then there is nothing to say
            return None
        finally:
            module.float()
    return largest_difference(double.numpy(), single.numpy())[1]
