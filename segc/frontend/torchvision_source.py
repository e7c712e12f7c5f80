"""`torchvision:NAME`: a segmentation model of torchvision, by its name there, with --checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from segc.bundle.preprocessing import Loader, PillowResize
from segc.errors import Code, SourceError
from segc.frontend import named_model
from segc.frontend.given import Given
from segc.frontend.model import ModelInfo, Notes, Source
from segc.suggestions import did_you_mean

if TYPE_CHECKING:
    from segc.frontend.checkpoint import Checkpoint

_CLASSES = 21  # of the weights that torchvision publishes, when nothing else says


def open_torchvision(
    name: str, *, checkpoint: str | Path | None, allow_mismatch: bool, given: Given | None, channels: int | None
) -> Source:  # fmt: skip
    """Build the model, for as many classes as the checkpoint's last layer has. Nothing is downloaded.

    Preprocessing is that of the weights which torchvision publishes for it.
    """
    named_model.require("torchvision", "torchvision")
    from torchvision import models

    from segc.frontend.torchvision_on_files import TorchvisionOnFiles

    known = models.list_models(module=models.segmentation)
    if name not in known:
        raise SourceError(
            f"torchvision has no segmentation model '{name}'", code=Code.UNKNOWN_SOURCE,
            because=f"it has {', '.join(known)}", so=did_you_mean(name, known),
        )  # fmt: skip
    if channels not in (None, 3):
        raise SourceError(
            f"torchvision's {name} takes 3 channels, not {channels}", code=Code.UNKNOWN_SOURCE, so="omit --channels"
        )
    given, read = given or Given(), named_model.read_weights(checkpoint)
    weights = models.get_model_weights(name).DEFAULT
    transforms: Any = weights.transforms()
    count = _classes(read, given)
    model = models.get_model(
        name, weights=None, weights_backbone=None, num_classes=count, **_settings(name, read)
    ).eval()  # fmt: skip
    categories = tuple(weights.meta["categories"])
    side = transforms.resize_size[0]
    info = ModelInfo(
        kind="torchvision", name=f"torchvision:{name}",
        sha256=named_model.digest(torchvision=name, classes=count),
        classes=categories if len(categories) == count else (),
        mean=named_model.of_bytes(tuple(transforms.mean)), std=named_model.of_bytes(tuple(transforms.std)),
        shape=(side, side), loader=Loader(color="color_ignore_orientation", decoder="pillow"),
        steps=(PillowResize(shortest=side, interpolation=transforms.interpolation.value),),
    )  # fmt: skip
    return named_model.source_of(
        info, model, read=read, allow_mismatch=allow_mismatch, given=given, notes=Notes(),
        on_files=lambda _: TorchvisionOnFiles(model, transforms),
    )  # fmt: skip


def _classes(read: Checkpoint | None, given: Given) -> int:
    """As many as the checkpoint's last layer has, or the names that the user gave."""
    for key in ("classifier.4.weight", "classifier.low_classifier.weight"):
        if read is not None and key in read.state:
            return len(read.state[key])
    return len(given.classes) if given.classes else _CLASSES


def _settings(name: str, read: Checkpoint | None) -> dict[str, Any]:
    """Whether the model has a second head for training: checkpoints have its weights or not."""
    if name.startswith("lraspp"):
        return {}
    return {"aux_loss": read is not None and any(key.startswith("aux_classifier.") for key in read.state)}
