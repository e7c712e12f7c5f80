"""`hf:NAME_OR_FOLDER`: a segmentation model of transformers, from a folder or Hugging Face's local cache."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segc.bundle.canonical_json import sha256_of_file
from segc.errors import CheckpointError, Code, SourceError
from segc.frontend import hf_images, named_model
from segc.frontend.given import Given, names_of
from segc.frontend.model import ModelInfo, Notes, Source
from segc.frontend.offline import offline
from segc.frontend.quiet import quiet

if TYPE_CHECKING:
    from torch import nn

_MASKS_OF = {"mask2former": (384, 384)}  # what its post-processing resizes masks to
_OTHER_INPUTS = {"oneformer": "task_inputs, the tokens of a task", "videomt": "pixel_values_videos, a video"}
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_SHOWN = 8


def open_hf(
    name: str, *, checkpoint: str | Path | None, allow_mismatch: bool, given: Given | None, channels: int | None,
    mode: str | None,
) -> Source:  # fmt: skip
    """Build the model with the folder's weights, the checkpoint's, or random ones. Nothing is downloaded.

    The model's class is the one that config.json names, its preprocessing that of preprocessor_config.json.
    """
    named_model.require("hf", "transformers")
    from segc.frontend.checkpoint import load_into

    given, notes = given or Given(), Notes()
    folder = _folder(name)
    config = _config(folder, name, trusted=given.trust_remote_code)
    made = _class(config, name, trusted=given.trust_remote_code)
    processor = hf_images.read(folder, trusted=given.trust_remote_code)
    whole = mode == "whole"
    info = ModelInfo(
        kind="hf", name=folder.name if Path(name).is_dir() else f"hf:{name}",
        sha256=_digest([folder / "config.json", folder / hf_images.FILE]), classes=names_of(config.id2label) or (),
        shape=_image_size(config), in_channels=channels or int(getattr(config, "num_channels", 3)),
    )  # fmt: skip
    info = _prepared(info, processor, given, notes, name, whole=whole)
    model, weights = _model(made, config, folder, checkpoint, allow_mismatch, notes)
    if (read := named_model.read_weights(checkpoint)) is not None:
        weights = read.record()
        notes.add(*named_model.narrow_note(read), *load_into(model, read, allow_mismatch=allow_mismatch).notes())
    info = replace(info, weights="checkpoint", checkpoint=weights) if weights is not None else info
    head = _head(model, config, processor)
    return named_model.source_of(
        replace(info, direct=not _resizes(head, info)), head, read=None, allow_mismatch=allow_mismatch, given=given,
        notes=notes,
        on_files=lambda _: None if processor is None else hf_on_files(model, processor, whole),
    )  # fmt: skip


def hf_on_files(model: nn.Module, processor: Any, whole: bool) -> Any:
    """The reference of the gate on files."""
    from segc.frontend.hf_on_files import HfOnFiles

    return HfOnFiles(model, processor, whole=whole)


def _folder(name: str) -> Path:
    """The folder of a model: itself, or its snapshot in the local cache. Raises SourceError if there is none."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    if (Path(name) / "config.json").is_file():
        return Path(name)
    if Path(name).exists():
        raise SourceError(
            f"'{name}' holds no model of transformers", code=Code.UNKNOWN_SOURCE,
            because="there is no config.json in it", so="give a folder that save_pretrained wrote",
        )  # fmt: skip
    try:
        found = try_to_load_from_cache(name, "config.json")
    except HFValidationError:
        found = None
    if isinstance(found, str):
        return Path(found).parent
    raise SourceError(
        f"the model '{name}' is not on this machine", code=Code.NOT_LOCAL,
        because="it is no folder and not in Hugging Face's local cache, and segc downloads nothing",
        so=f"hf download {name}, or give the path of its folder",
    )  # fmt: skip


def _config(folder: Path, name: str, *, trusted: bool) -> Any:
    """The configuration, without pretrained backbones, which would be downloaded. Raises SourceError."""
    from transformers import CONFIG_MAPPING, AutoConfig

    try:
        said = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = said.get("model_type")
        if kind not in CONFIG_MAPPING and "auto_map" in said and not trusted:
            raise _own_code(name, said["auto_map"])
        with quiet(), offline():
            config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=trusted)
    except SourceError:
        raise
    except Exception as error:  # transformers raises many kinds for files that it does not understand
        raise SourceError(
            f"transformers does not understand the config.json of '{name}'", code=Code.CONFIG,
            because=f"{type(error).__name__}: {' '.join(str(error).split())[:200]}",
            so="a newer transformers may know the model: pip install -U transformers",
        ) from error  # fmt: skip
    if getattr(config, "use_pretrained_backbone", False):
        config.use_pretrained_backbone = False
    return config


def _own_code(name: str, auto_map: Any) -> SourceError:
    where = sorted(set(map(str, auto_map.values()))) if isinstance(auto_map, dict) else []
    return SourceError(
        f"'{name}' needs Python code of its own folder", code=Code.REMOTE_CODE,
        because=f"its config.json names {', '.join(where)}, and transformers has no class for it",
        so="read that code; --trust-remote-code runs it",
    )  # fmt: skip


def _class(config: Any, name: str, *, trusted: bool) -> Any:
    """The model's class: the one that config.json names, if it is for segmentation. Raises SourceError."""
    import transformers
    from transformers.models.auto import modeling_auto as auto

    semantic = dict(auto.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES)
    universal = dict(auto.MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING_NAMES)
    if (other := _OTHER_INPUTS.get(config.model_type)) is not None:
        raise SourceError(
            f"'{name}' needs more than an image", code=Code.MODEL_INPUTS, because=f"its model asks for {other}",
            so="bind them in a module of your own, and compile a Python file",
        )  # fmt: skip
    known = {**universal, **semantic}
    named = (config.architectures or [known.get(config.model_type, "")])[0]
    if named in known.values():
        return getattr(transformers, named)
    auto_map = getattr(config, "auto_map", None) or {}
    own = next((auto_map[key] for key in ("AutoModelForSemanticSegmentation", "AutoModel") if key in auto_map), None)
    if own is not None:
        if not trusted:
            raise _own_code(name, auto_map)
        from transformers.dynamic_module_utils import get_class_from_dynamic_module

        with quiet(), offline():
            return get_class_from_dynamic_module(own, config.name_or_path)
    raise SourceError(
        f"'{name}' is no segmentation model", code=Code.NOT_SEGMENTATION,
        because=f"its config.json names {named or 'no class'}",
        so=f"segc knows {', '.join(sorted(set(known.values())))}",
    )  # fmt: skip


def _prepared(
    info: ModelInfo, processor: Any, given: Given, notes: Notes, name: str, *, whole: bool
) -> ModelInfo:  # fmt: skip
    if processor is not None:
        if whole and processor.to_dict().get("do_split_image"):
            notes.add("images are resized to one square, while the processor splits them into several")
        return hf_images.prepared(info, processor, whole=whole)
    if given.mean is None:
        raise SourceError(
            f"'{name}' does not say how images are prepared", code=Code.OWN_PREPROCESSING,
            because=f"there is no {hf_images.FILE} in its folder", so="add it, or give --mean and --std",
        )  # fmt: skip
    return info


def _image_size(config: Any) -> tuple[int, int]:
    """The (height, width) that the configuration names, or segc's default."""
    side = getattr(config, "image_size", None)
    if isinstance(side, int):
        return side, side
    return (int(side[0]), int(side[1])) if isinstance(side, list | tuple) else ModelInfo.shape


def _model(
    made: Any, config: Any, folder: Path, checkpoint: str | Path | None, allow_mismatch: bool, notes: Notes
) -> tuple[Any, dict[str, str] | None]:  # fmt: skip
    """The model in float32, and the record of its folder's weights; None where they are random or a checkpoint's."""
    import torch

    stored = next((folder / file for file in _WEIGHTS if (folder / file).is_file()), None)
    try:
        with quiet(), offline():
            if checkpoint is not None or stored is None:
                return made._from_config(config, attn_implementation="eager", dtype=torch.float32).eval(), None
            model, report = made.from_pretrained(
                str(folder), config=config, local_files_only=True, weights_only=True, dtype=torch.float32,
                attn_implementation="eager", output_loading_info=True,
            )  # fmt: skip
    except Exception as error:  # models raise many kinds for configurations and weights that do not fit
        raise SourceError(
            f"transformers cannot build '{folder.name}'", code=Code.CONFIG_MODEL,
            because=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}",
        ) from error  # fmt: skip
    wrong = [f"{kind}: {key}" for kind in ("missing_keys", "mismatched_keys") for key in sorted(map(str, report[kind]))]
    if wrong and not allow_mismatch:
        raise CheckpointError(
            f"the weights of '{folder.name}' do not fit its model: {len(wrong)} keys", code=Code.CHECKPOINT_MISMATCH,
            because=wrong[:_SHOWN], so="get the folder again, or --allow-mismatch to load what fits",
        )  # fmt: skip
    notes.add(*(f"--allow-mismatch: {line}" for line in wrong[:_SHOWN]))
    narrow = str(getattr(config, "dtype", None)).removeprefix("torch.")
    if narrow in ("float16", "bfloat16"):
        notes.add(f"the weights are in {narrow}: the engine computes with their values in float32")
    assert stored is not None
    return model.eval(), {"name": stored.name, "sha256": _digest(_files(stored))}


def _files(stored: Path) -> list[Path]:
    """The files of the weights: one, or an index and its parts."""
    if stored.suffix != ".json":
        return [stored]
    parts = json.loads(stored.read_text(encoding="utf-8"))["weight_map"].values()
    return [stored, *(stored.parent / part for part in sorted(set(parts)))]


def _digest(files: list[Path]) -> str:
    """The sha256 of a file; of several, that of their digests."""
    found = [sha256_of_file(file) for file in files if file.is_file()]
    return found[0] if len(found) == 1 else hashlib.sha256("\n".join(found).encode()).hexdigest()


def _head(model: Any, config: Any, processor: Any) -> nn.Module:
    """The model with its post-processing up to scores of classes. Raises SourceError for one that draws lots."""
    from segc.frontend.hf_heads import QueryHead, SemanticHead

    kind = config.model_type
    if type(model).__name__.endswith("SemanticSegmentation"):
        return SemanticHead(model)
    size = _MASKS_OF.get(kind)
    if kind.startswith("eomt"):
        sizes = {} if processor is None else dict(processor.to_dict()["size"])
        short = sizes.get("shortest_edge") or _image_size(config)[0]
        size = (short, sizes.get("longest_edge") or short)
        _settle_masks(model)
    return QueryHead(model, size)


def _resizes(head: nn.Module, info: ModelInfo) -> bool:
    """Whether the model itself resizes its logits to the image, as UPerNet does: its post-processing resizes again."""
    from segc.frontend.hf_heads import SemanticHead
    from segc.frontend.trace import made_of

    if not isinstance(head, SemanticHead):
        return False
    try:
        return made_of(head, (1, info.in_channels, *info.shape)).shape[2:] == info.shape
    except Exception:  # models raise many kinds at sizes that they do not take; whoever compiles will hear of it
        return False


def _settle_masks(model: Any) -> None:
    """Make numbers of the shares of queries whose attention EoMT masks: a tensor would decide what is traced."""
    shares = tuple(model.attn_mask_probs.tolist())
    if set(shares) - {0.0, 1.0}:
        raise SourceError(
            "the model gives other results each time", code=Code.CONFIG_MODEL,
            because=f"it masks the attention of random queries, in shares of {shares}: its training was not finished",
            so="set attn_mask_probs to 0, as at the end of training",
        )  # fmt: skip
    del model.attn_mask_probs
    model.attn_mask_probs = shares
