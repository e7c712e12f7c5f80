"""`smp:ARCH[/ENCODER]`: a model of segmentation-models-pytorch with --checkpoint; or `smp:FOLDER`, as it saves them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segc.bundle.canonical_json import sha256_of_file
from segc.errors import Code, SourceError
from segc.frontend import named_model
from segc.frontend.given import Given
from segc.frontend.model import ModelInfo, Notes, Source
from segc.frontend.offline import offline
from segc.frontend.quiet import quiet
from segc.suggestions import did_you_mean

if TYPE_CHECKING:
    from torch import nn

    from segc.frontend.checkpoint import Checkpoint

_ENCODER = "resnet34"  # smp's default
# Encoders that were trained on values scaled otherwise than by ImageNet's mean and std
_OTHER = ("inception", "xception", "dpn", "timm-")
_PARTS = ("encoder_name", "classes", "in_channels")
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def open_smp(
    name: str, *, checkpoint: str | Path | None, allow_mismatch: bool, given: Given | None, channels: int | None
) -> Source:  # fmt: skip
    """Build the model. The checkpoint says how many classes and channels it has. Nothing is downloaded."""
    named_model.require("smp", "segmentation_models_pytorch")
    from segc.frontend.smp_on_files import SmpOnFiles

    given, notes, folder = given or Given(), Notes(), Path(name)
    settings = _saved(folder) if folder.is_dir() else _named(name)
    if checkpoint is None and folder.is_dir():
        checkpoint = next((folder / file for file in _WEIGHTS if (folder / file).is_file()), None)
    read = named_model.read_weights(checkpoint)
    settings = _found(read, given, channels) | settings
    model = _built(settings)
    encoder, count, bands = (settings[part] for part in _PARTS)
    prepared = _preprocessing(encoder, given, notes)
    mean, std = _each(prepared["mean"], bands), _each(prepared["std"], bands)
    scaled = prepared["input_range"][1] == 1
    info = ModelInfo(
        kind="smp", name=folder.name if folder.is_dir() else f"smp:{name}",
        sha256=sha256_of_file(folder / "config.json") if folder.is_dir() else named_model.digest(smp=settings),
        mean=named_model.of_bytes(mean) if scaled else mean, std=named_model.of_bytes(std) if scaled else std,
        channel_order=prepared["input_space"], in_channels=bands, channels=count, shape=_size(model),
    )  # fmt: skip
    return named_model.source_of(
        info, model, read=read, allow_mismatch=allow_mismatch, given=given, notes=notes,
        on_files=lambda made: SmpOnFiles(model, prepared, made.threshold or 0.5),
    )  # fmt: skip


def _named(name: str) -> dict[str, Any]:
    """The settings of ARCH or ARCH/ENCODER. Raises SourceError for unknown ones."""
    import segmentation_models_pytorch as smp
    import timm

    arch, _, encoder = name.partition("/")
    encoder = encoder or _ENCODER
    known = smp.MODEL_ARCHITECTURES_MAPPING
    if arch.lower() not in known:
        raise SourceError(
            f"segmentation-models-pytorch has no architecture '{arch}', and there is no such folder",
            code=Code.UNKNOWN_SOURCE, because=f"it has {', '.join(known)}", so=did_you_mean(arch.lower(), known),
        )  # fmt: skip
    encoders = list(smp.encoders.encoders)
    timm_name = encoder.removeprefix("tu-").partition(".")[0]
    if encoder not in encoders and not (encoder.startswith("tu-") and timm.is_model(timm_name)):
        raise SourceError(
            f"segmentation-models-pytorch has no encoder '{encoder}'", code=Code.UNKNOWN_SOURCE,
            because=f"it has {len(encoders)}, and those of timm as 'tu-NAME'", so=did_you_mean(encoder, encoders),
        )  # fmt: skip
    return {"arch": arch.lower(), "encoder_name": encoder}


def _saved(folder: Path) -> dict[str, Any]:
    """The settings in the config.json that smp's `save_pretrained` writes. Raises SourceError."""
    import segmentation_models_pytorch as smp

    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        arch = str(config["_model_class"]).lower()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SourceError(
            f"'{folder}' holds no model of segmentation-models-pytorch", code=Code.UNKNOWN_SOURCE,
            because=f"{type(error).__name__}: {error}", so="give a folder that its save_pretrained wrote",
        ) from error  # fmt: skip
    if arch not in smp.MODEL_ARCHITECTURES_MAPPING:
        raise SourceError(
            f"segmentation-models-pytorch has no architecture '{arch}'", code=Code.UNKNOWN_SOURCE,
            because=f"{folder / 'config.json'} names it",
        )  # fmt: skip
    kept = {key: value for key, value in config.items() if not key.startswith("_") and key != "encoder_weights"}
    return {"encoder_name": _ENCODER, "in_channels": 3, "classes": 1, **kept, "arch": arch}


def _found(read: Checkpoint | None, given: Given, channels: int | None) -> dict[str, int]:
    """Classes and channels: from the checkpoint's head and first convolution, or from the user."""
    names = len(given.classes or ())
    count, bands = names if names > 2 else 1, channels or 3
    if read is not None:
        heads = [value for key, value in read.state.items() if key.startswith("segmentation_head.") and value.ndim == 4]
        first = next((value for value in read.state.values() if value.ndim == 4), None)
        count = len(heads[-1]) if heads else count
        bands = channels or (first.shape[1] if first is not None else 3)
    return {"in_channels": bands, "classes": count}


def _built(settings: dict[str, Any]) -> nn.Module:
    import segmentation_models_pytorch as smp

    try:
        with quiet(), offline():
            model: nn.Module = smp.create_model(**settings, encoder_weights=None).eval()
    except Exception as error:  # architectures refuse encoders in many ways
        said = " ".join(str(error).split())[:200]
        raise SourceError(
            f"segmentation-models-pytorch cannot build {settings['arch']} on {settings['encoder_name']}",
            code=Code.CONFIG_MODEL, because=f"{type(error).__name__}: {said}",
        ) from error  # fmt: skip
    return model


def _size(model: nn.Module) -> tuple[int, int]:
    """The (height, width) that a transformer's embedding of positions is for, or segc's default."""
    sizes = (getattr(module, "img_size", None) for module in model.modules())
    found = next((size for size in sizes if isinstance(size, tuple) and len(size) == 2), None)
    return ModelInfo.shape if found is None else (int(found[0]), int(found[1]))


def _preprocessing(encoder: str, given: Given, notes: Notes) -> dict[str, Any]:
    """smp's preprocessing parameters of the encoder, as far as this machine knows them."""
    from segmentation_models_pytorch import encoders

    try:
        with quiet(), offline():
            return dict(encoders.get_preprocessing_params(encoder))
    except Exception as error:  # smp keeps them beside the encoder's weights on the Hub; not all encoders have some
        if encoder.startswith(_OTHER) and given.mean is None:
            raise SourceError(
                f"smp's preprocessing of the encoder {encoder} is not on this machine", code=Code.NOT_LOCAL,
                because="smp keeps it on the Hub, and this encoder's is not the usual one of ImageNet",
                so=f"run smp.encoders.get_preprocessing_params('{encoder}') once where there is a connection, or give"
                " --mean and --std",
            ) from error  # fmt: skip
    mean, std = named_model.IMAGENET
    if given.mean is None:
        notes.add(
            f"smp's preprocessing of the encoder {encoder} is not on this machine: ImageNet's mean and std are taken;"
            " --mean and --std give others"
        )
    return {"input_space": "RGB", "input_range": [0, 1], "mean": list(mean), "std": list(std)}


def _each(values: list[float], channels: int) -> tuple[float, ...]:
    """One for each channel: of more than three, ImageNet's in turn, as smp repeats its filters."""
    return tuple(values[at % len(values)] for at in range(channels))
