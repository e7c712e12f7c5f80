"""`meta["predict"]` of a Python source: its own way from a file to a mask, for comparison with `segment`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segc.frontend.model import NotComparable, OwnMask
from segc.frontend.quiet import quiet

if TYPE_CHECKING:
    from torch import nn

    from segc.bundle.manifest import Manifest


class PythonOnFiles:
    """predict(path) gives class numbers (H, W) of a file; what enters `model` on the way is watched."""

    shrinks = False

    def __init__(self, predict: Callable[[str], Any], model: nn.Module) -> None:
        self._predict, self._model = predict, model

    def tensor(self, path: Path, fixed: tuple[int, int] | None) -> np.ndarray | None:
        """What enters the model: (1, C, H, W). None if `predict` runs another model."""
        return self._run(path, fixed).tensor

    def mask(self, path: Path, how: Manifest, fixed: tuple[int, int] | None, shrink: int) -> OwnMask:
        """The mask that `predict` gives."""
        return self._run(path, fixed)

    def _run(self, path: Path, fixed: tuple[int, int] | None) -> OwnMask:
        import torch

        seen: list[Any] = []
        hook = self._model.register_forward_pre_hook(lambda _, given: seen.append(given[0] if given else None))
        try:
            with quiet(), torch.no_grad():
                made = self._predict(str(path))
        finally:
            hook.remove()
        mask = np.asarray(made.cpu() if isinstance(made, torch.Tensor) else made)
        mask = mask[0] if mask.ndim == 3 and len(mask) == 1 else mask
        if mask.ndim != 2 or mask.dtype.kind not in "uib":
            raise NotComparable(f"predict gives {mask.dtype} {mask.shape}; class numbers (H, W) are needed")
        maps = [x for x in seen if isinstance(x, torch.Tensor) and x.ndim == 4]
        tensor = maps[0].float().cpu().numpy() if len(maps) == 1 else None
        if fixed is not None and (tensor is None or tensor.shape[2:] != fixed):
            given = "unknown sizes" if tensor is None else f"{tensor.shape[2]}x{tensor.shape[3]}"
            raise NotComparable(f"the engine is fixed at {fixed[0]}x{fixed[1]}, and predict gives the network {given}")
        return OwnMask(tensor, mask.astype(np.int64), None)
