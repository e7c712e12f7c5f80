"""The rounding error of eager PyTorch itself, float32 against float64: no engine can be compared more closely."""

from __future__ import annotations

import numpy as np
from torch import nn

from segc.frontend.quiet import quiet
from segc.parity.difference import largest_difference


def own_error(module: nn.Module, x: np.ndarray) -> float | None:
    """The largest |float32 - float64| of the logits, relative to the largest logit.

    x: float32 (N, C, H, W). None if the module does not run in float64, or has parameters of other float types. The
    module is unchanged afterwards, bit for bit.
    """
    import torch

    if any(t.is_floating_point() and t.dtype != torch.float32 for t in module.state_dict().values()):
        return None
    example = torch.from_numpy(x)
    with quiet(), torch.no_grad():
        single = module(example).double()
        try:
            double = module.double()(example.double())
        except Exception:  # the model may require float32; there is no result then
            return None
        finally:
            module.float()
    return largest_difference(double.numpy(), single.numpy())[1]
