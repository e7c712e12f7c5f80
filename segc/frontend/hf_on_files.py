"""transformers' own way from a file to a mask: image processor, model, post_process_semantic_segmentation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segc.frontend import hf_images
from segc.frontend.model import NotComparable, OwnMask
from segc.frontend.quiet import quiet

if TYPE_CHECKING:
    from torch import nn

    from segc.bundle.manifest import Manifest


class HfOnFiles:
    """The reference of the gate on files. whole: the user asked for whole images, not parts of them."""

    shrinks = True

    def __init__(self, model: nn.Module, processor: Any, *, whole: bool) -> None:
        self._model, self._processor, self._whole = model, processor, whole

    def tensor(self, path: Path, fixed: tuple[int, int] | None) -> np.ndarray | None:
        """What enters the network: (1, C, H, W)."""
        made: np.ndarray = self._prepared(path, fixed, 1)[0]["pixel_values"].numpy()
        return made

    def mask(self, path: Path, how: Manifest, fixed: tuple[int, int] | None, shrink: int) -> OwnMask:
        """The semantic map that the processor makes of the model's outputs."""
        import torch

        inputs, size = self._prepared(path, fixed, shrink)
        if not hasattr(self._processor, "post_process_semantic_segmentation"):
            raise NotComparable(f"{type(self._processor).__name__} makes no semantic maps")
        with quiet(), torch.no_grad():
            outputs = self._model(**inputs)
            (found,) = self._processor.post_process_semantic_segmentation(
                outputs, target_sizes=[size], return_segmentation_scores=True
            )
        return OwnMask(
            inputs["pixel_values"].numpy(), found.segmentation.numpy(), found.segmentation_scores.float().numpy()
        )

    def _prepared(
        self, path: Path, fixed: tuple[int, int] | None, shrink: int
    ) -> tuple[dict[str, Any], tuple[int, int]]:  # fmt: skip
        """The model's inputs, and the (height, width) of the picture."""
        from transformers.image_utils import load_image

        picture = load_image(str(path))
        settings = hf_images.at(self._processor, fixed, shrink, whole=self._whole)
        with quiet():
            inputs = dict(self._processor(images=picture, return_tensors="pt", **settings))
        return inputs, (picture.height, picture.width)
