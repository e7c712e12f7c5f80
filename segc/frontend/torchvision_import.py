"""torchvision from plain wheels, beside any build of torch.

torchvision's compiled operators load only beside the build of torch that they were made for: those of the package
index ask for CUDA. Without them its import fails, because it registers shapes for two operators that are then not
there. No segmentation model needs them. Declaring both lets torchvision, and timm and transformers, which import it,
load; a call of one says that it is not implemented.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_OPERATORS = ("nms", "qnms")
_declared: list[torch.library.Library] = []  # an operator lives as long as the library that declares it


def prepare() -> None:
    """Declare the operators unless torchvision's own are there. A second call changes nothing."""
    if _declared or importlib.util.find_spec("torchvision") is None:
        return
    import torch

    _load_compiled()
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    _declared.append(library)
    for name in _OPERATORS:
        if not hasattr(torch.ops.torchvision, name):
            schema = f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            library.define(schema)  # type: ignore[no-untyped-call]


def _load_compiled() -> None:
    """Load torchvision's own operators, as its import does, if they load beside this torch."""
    import contextlib
    from pathlib import Path

    import torch

    spec = importlib.util.find_spec("torchvision")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        for file in sorted(Path(folder).glob("_C.*")):
            with contextlib.suppress(OSError):
                torch.ops.load_library(str(file))  # type: ignore[no-untyped-call]
