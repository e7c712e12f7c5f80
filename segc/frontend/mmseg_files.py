"""mmseg's own way from a file to a mask: test pipeline, data preprocessor and `predict`, in PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segc.bundle.preprocessing import SIZING
from segc.frontend.mmseg_pipeline import FilePipeline, Part
from segc.frontend.model import OwnMask
from segc.frontend.quiet import quiet

if TYPE_CHECKING:
    from segc.bundle.manifest import Manifest

_SIZES = ("scale", "size", "crop_size", "max_size")  # settings of transforms in pixels


class MmsegOnFiles:
    """The reference of the gate on files. `fixed` puts one Resize to an engine's size in place of all that sizes."""

    shrinks = True

    def __init__(self, segmentor: Any, pipeline: FilePipeline) -> None:
        self._segmentor, self._pipeline = segmentor, pipeline

    def tensor(self, path: Path, fixed: tuple[int, int] | None) -> np.ndarray | None:
        """What enters the network: (1, C, H, W)."""
        import torch

        with quiet(), torch.no_grad(), self._unpadded(fixed):
            made = self._segmentor.data_preprocessor(self._data(path, fixed, 1), False)["inputs"]
        made = torch.stack(list(made)) if isinstance(made, list | tuple) else made
        tensor: np.ndarray = made.float().numpy()
        return tensor

    def mask(self, path: Path, how: Manifest, fixed: tuple[int, int] | None, shrink: int) -> OwnMask:
        """What mmseg.apis.inference_model gives for the file, with the inference mode of `how`."""
        import torch

        seen: list[torch.Tensor] = []
        segmentor = self._segmentor
        hook = segmentor.data_preprocessor.register_forward_hook(lambda _m, _i, out: seen.append(out["inputs"]))
        try:
            with quiet(), torch.no_grad(), self._unpadded(fixed), self._in_mode(how):
                result = segmentor.test_step(self._data(path, fixed, shrink))[0]
        finally:
            hook.remove()
        mask = result.pred_sem_seg.data.squeeze(0).numpy().astype(np.int64)
        logits = result.seg_logits.data.numpy() if "seg_logits" in result else None
        tensor = seen[0].float().numpy() if seen and isinstance(seen[0], torch.Tensor) else None
        return OwnMask(tensor, mask, logits)

    def _data(self, path: Path, fixed: tuple[int, int] | None, shrink: int) -> dict[str, Any]:
        from mmengine.dataset import Compose

        made = Compose(list(self._configs(fixed, shrink)))({"img_path": str(path)})
        return {"inputs": [made["inputs"]], "data_samples": [made["data_samples"]]}

    def _configs(self, fixed: tuple[int, int] | None, shrink: int) -> Iterator[Mapping[str, Any]]:
        resize = {"type": "Resize", "scale": fixed[::-1], "keep_ratio": False} if fixed is not None else None
        for part in self._pipeline.parts:
            if fixed is not None and any(isinstance(step, SIZING) for step in part.steps):
                if resize is not None:
                    yield resize
                resize = None
                continue
            if resize is not None and str(getattr(part.config["type"], "__name__", part.config["type"])).endswith(
                "PackSegInputs"
            ):
                yield resize
                resize = None
            yield part.config if shrink == 1 else _shrunk(part, shrink)

    @contextmanager
    def _in_mode(self, how: Manifest) -> Iterator[None]:
        """mmseg's inference with the mode and window of `how`."""
        segmentor, before = self._segmentor, self._segmentor.test_cfg
        changed = type(before)(before or {})
        changed["mode"] = how.inference.mode
        if how.inference.mode == "slide":
            changed["crop_size"], changed["stride"] = how.inference.crop, how.inference.stride
        segmentor.test_cfg = changed
        try:
            yield
        finally:
            segmentor.test_cfg = before

    @contextmanager
    def _unpadded(self, fixed: tuple[int, int] | None) -> Iterator[None]:
        """An engine of one size takes images at that size: no padding."""
        preprocessor = self._segmentor.data_preprocessor
        before = getattr(preprocessor, "test_cfg", None)
        if fixed is None or not before:
            yield
            return
        preprocessor.test_cfg = None
        try:
            yield
        finally:
            preprocessor.test_cfg = before


def _shrunk(part: Part, shrink: int) -> dict[str, Any]:
    """The transform with its sizes in pixels divided."""
    made = dict(part.config)
    for key in _SIZES:
        if (value := made.get(key)) is not None and part.steps:
            made[key] = tuple(-(-v // shrink) for v in value) if isinstance(value, tuple) else -(-value // shrink)
    return made
