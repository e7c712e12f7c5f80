"""torchvision's own way from a file to a mask: Pillow, the transforms of its weights, and the output resized."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segc.frontend.model import OwnMask
from segc.frontend.quiet import quiet

if TYPE_CHECKING:
    import torch
    from torch import nn

    from segc.bundle.manifest import Manifest


class TorchvisionOnFiles:
    """The reference of the gate on files. model: gives a dictionary with logits under 'out'."""

    shrinks = True

    def __init__(self, model: nn.Module, transforms: Any) -> None:
        self._model, self._transforms = model, transforms

    def tensor(self, path: Path, fixed: tuple[int, int] | None) -> np.ndarray | None:
        """What enters the network: (1, C, H, W)."""
        made: np.ndarray = self._prepared(path, fixed, 1)[0].numpy()
        return made

    def mask(self, path: Path, how: Manifest, fixed: tuple[int, int] | None, shrink: int) -> OwnMask:
        """The class with the largest logit, after they were resized to the picture."""
        import torch
        from torch.nn import functional

        x, size = self._prepared(path, fixed, shrink)
        with quiet(), torch.no_grad():
            small = self._model(x)["out"]
            logits = functional.interpolate(small, size=size, mode="bilinear", align_corners=False)[0]
        return OwnMask(x.numpy(), logits.argmax(0).numpy(), logits.numpy())

    def _prepared(
        self, path: Path, fixed: tuple[int, int] | None, shrink: int
    ) -> tuple[torch.Tensor, tuple[int, int]]:  # fmt: skip
        """The network's input, and the (height, width) of the picture."""
        from PIL import Image
        from torchvision.transforms._presets import SemanticSegmentation

        own = self._transforms
        made = partial(SemanticSegmentation, mean=own.mean, std=own.std, interpolation=own.interpolation)
        transforms = made(resize_size=-(-own.resize_size[0] // shrink))
        if fixed is not None:
            transforms.resize_size = list(fixed)
        with Image.open(path) as image:
            picture = image.convert("RGB")
        return transforms(picture).unsqueeze(0), (picture.height, picture.width)
