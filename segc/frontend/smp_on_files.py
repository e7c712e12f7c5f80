"""segmentation-models-pytorch's own way from a file to a mask: its preprocessing of what OpenCV reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from segc.frontend.model import NotComparable, OwnMask
from segc.frontend.quiet import quiet

if TYPE_CHECKING:
    from torch import nn

    from segc.bundle.manifest import Manifest


class SmpOnFiles:
    """The reference of the gate on files. parameters: of smp's preprocessing. threshold: of a head with one channel."""

    shrinks = False

    def __init__(self, model: nn.Module, parameters: dict[str, Any], threshold: float) -> None:
        self._model, self._parameters, self._threshold = model, parameters, threshold

    def tensor(self, path: Path, fixed: tuple[int, int] | None) -> np.ndarray | None:
        """What enters the network: (1, C, H, W)."""
        return self._prepared(path, fixed)[0]

    def mask(self, path: Path, how: Manifest, fixed: tuple[int, int] | None, shrink: int) -> OwnMask:
        """The class with the largest logit, or the foreground, after the logits were resized to the picture."""
        import torch
        from torch.nn import functional

        x, size = self._prepared(path, fixed)
        with quiet(), torch.no_grad():
            logits = self._model(torch.from_numpy(x))
            logits = functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)[0]
        mask = logits.argmax(0) if len(logits) > 1 else (logits[0].sigmoid() > self._threshold).long()
        return OwnMask(x, mask.numpy(), logits.numpy())

    def _prepared(self, path: Path, fixed: tuple[int, int] | None) -> tuple[np.ndarray, tuple[int, int]]:
        """The network's input, and the (height, width) of the picture. smp resizes nothing: `fixed` is the user's."""
        from segmentation_models_pytorch.encoders._preprocessing import preprocess_input

        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None or len(self._parameters["mean"]) != 3:
            raise NotComparable("smp has no preprocessing of its own for images like this one")
        size = image.shape[:2]
        image = cv2.cvtColor(image if fixed is None else cv2.resize(image, fixed[::-1]), cv2.COLOR_BGR2RGB)
        made = preprocess_input(image, **self._parameters).transpose(2, 0, 1)[None]
        return np.ascontiguousarray(made, np.float32), (size[0], size[1])
