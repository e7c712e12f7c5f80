"""The image processor of a transformers model, as steps of `segment`.

A processor has a Pillow and a torchvision form in transformers, whose 8-bit pixels differ by one at places: segc
follows the Pillow form.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from segc.bundle.preprocessing import CenterCrop, Loader, PadStep, PillowResize, Step
from segc.errors import Code, SourceError
from segc.frontend.model import ModelInfo
from segc.frontend.named_model import of_bytes
from segc.frontend.offline import offline
from segc.frontend.quiet import quiet

LOADER = Loader(color="color", decoder="pillow")  # as transformers.image_utils.load_image
FILE = "preprocessor_config.json"
_KERNELS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # of PIL.Image.Resampling
_PLAIN = {"do_resize", "do_rescale", "do_normalize", "do_center_crop", "do_flip_channel_order", "do_convert_rgb"}
_LABELS = {"do_reduce_labels", "do_convert_annotations"}  # of annotations, which are not there
_KNOWN = _PLAIN | _LABELS | {"do_pad", "do_split_image"}


def read(folder: Path, *, trusted: bool) -> Any | None:
    """The image processor of a folder; None if it has none. Raises SourceError if transformers cannot make it."""
    from transformers import AutoImageProcessor

    if not (folder / FILE).is_file():
        return None
    try:
        with quiet(), offline():
            return AutoImageProcessor.from_pretrained(
                str(folder), backend="pil", local_files_only=True, trust_remote_code=trusted
            )
    except Exception as error:  # transformers raises many kinds for files that it does not understand
        raise SourceError(
            f"transformers cannot make the image processor of '{folder.name}'", code=Code.OWN_PREPROCESSING,
            because=f"{type(error).__name__}: {' '.join(str(error).split())[:200]}",
            so=f"correct {FILE}, or delete it and give --mean, --std and --shape",
        ) from error  # fmt: skip


def prepared(info: ModelInfo, processor: Any, *, whole: bool) -> ModelInfo:
    """`info` with what the processor does to images. whole: the user asked for whole images, not parts of them.

    Raises SourceError for what `segment` has no equal of.
    """
    said = _heeded(processor)
    if said.get("do_split_image") and not whole:
        raise _cannot(
            processor, "it splits images into overlapping squares (do_split_image)",
            "--mode whole resizes whole images to one square instead",
        )  # fmt: skip
    others = sorted(key for key, value in said.items() if key.startswith("do_") and value and key not in _KNOWN)
    if others:
        raise _cannot(processor, f"it does {', '.join(others)}", "turn it off in the file if the model can do without")
    if said.get("do_pad") and said.get("size_divisor") and not said.get("pad_size"):
        raise _cannot(processor, "it pads on all four sides (do_pad with size_divisor)", "set do_pad to false")
    by = said["rescale_factor"] if said.get("do_rescale") else 1.0
    mean, std = (said["image_mean"], said["image_std"]) if said.get("do_normalize") else ((0.0,) * 3, (1.0,) * 3)
    mean, std = (tuple(map(float, v)) if isinstance(v, list | tuple) else (float(v),) * 3 for v in (mean, std))
    steps = tuple(_steps(processor, said, split=bool(said.get("do_split_image"))))
    return replace(
        info, loader=LOADER, steps=steps, shape=_shape(steps) or info.shape,
        mean=tuple(v / by for v in mean) if by != 1 / 255 else of_bytes(mean),
        std=tuple(v / by for v in std) if by != 1 / 255 else of_bytes(std),
        channel_order="BGR" if said.get("do_flip_channel_order") else "RGB",
    )  # fmt: skip


def _heeded(processor: Any) -> dict[str, Any]:
    """What the processor says, without the steps that its class has no code for, as MobileViT's has none for a mean."""
    said: dict[str, Any] = processor.to_dict()
    code = getattr(type(processor), "_preprocess", None)
    if code is None or "super" in code.__code__.co_names:  # what it does not name it may hand on
        return said
    known = set(inspect.signature(code).parameters)
    lost = {key for key in ("do_resize", "do_rescale", "do_normalize", "do_center_crop") if key not in known}
    return {key: value for key, value in said.items() if key not in lost}


def _steps(processor: Any, said: Mapping[str, Any], *, split: bool) -> Iterator[Step]:
    size = {key: value for key, value in dict(said.get("size") or {}).items() if value}
    if said.get("do_resize"):
        if said.get("resample") not in _KERNELS:
            raise _cannot(processor, f"it resizes by the kernel {said.get('resample')}", "use bilinear or bicubic")
        yield _resize(processor, said, size, split)
    if said.get("do_center_crop"):
        crop = said["crop_size"]
        if said.get("do_resize") and min(_least(size)) < max(crop["height"], crop["width"]):
            raise _cannot(processor, "its crop is larger than the images that it cuts", "correct crop_size")
        yield CenterCrop(size=(crop["width"], crop["height"]), floor=True)
    if (padded := said.get("pad_size")) is not None:
        yield PadStep(size=(padded["width"], padded["height"]))
    elif said.get("do_pad") and "shortest_edge" in size and "do_split_image" in said and not split:
        yield PadStep(size=(size.get("longest_edge", size["shortest_edge"]), size["shortest_edge"]))


def _resize(processor: Any, said: Mapping[str, Any], size: Mapping[str, int], split: bool) -> PillowResize:
    kernel: Any = _KERNELS[said["resample"]]
    shortest, longest = size.get("shortest_edge"), size.get("longest_edge")
    multiple = int(said.get("size_divisor") or 1)
    if split and shortest:
        return PillowResize(scale=(shortest, shortest), interpolation=kernel)
    if shortest:
        return PillowResize(shortest=shortest, longest=longest, multiple=multiple, interpolation=kernel)
    if not {"height", "width"} <= set(size):
        raise _cannot(processor, f"its size is {dict(size)}", "give it a height and width, or a shortest edge")
    scale, keep = (size["width"], size["height"]), bool(said.get("keep_aspect_ratio"))
    step = int(said.get("ensure_multiple_of") or 1)
    if not keep:
        to = tuple(round(side / step) * step for side in scale)
        to = tuple(-(-side // multiple) * multiple for side in to)
        return PillowResize(scale=(to[0], to[1]), interpolation=kernel)
    return PillowResize(scale=scale, keep_ratio=True, multiple=step, interpolation=kernel)


def _least(size: Mapping[str, int]) -> tuple[int, int]:
    """Sides that resized images have at least."""
    short = size.get("shortest_edge")
    return (short, short) if short else (size["height"], size["width"])


def _shape(steps: tuple[Step, ...]) -> tuple[int, int] | None:
    """The (height, width) of most images after the steps, None if they leave it alone."""
    found = None
    for step in steps:
        if isinstance(step, PillowResize):
            side = step.shortest and -(-step.shortest // step.multiple) * step.multiple
            found = (side, side) if side else step.scale and step.scale[::-1]
        elif isinstance(step, CenterCrop | PadStep) and step.size is not None:
            found = step.size[::-1]
    return found


def _cannot(processor: Any, why: str, so: str) -> SourceError:
    return SourceError(
        f"{type(processor).__name__} prepares images as segc does not", code=Code.OWN_PREPROCESSING, because=why, so=so
    )


def at(processor: Any, fixed: tuple[int, int] | None, shrink: int, *, whole: bool) -> dict[str, Any]:
    """Arguments of a call of the processor that make it follow an engine of one size, or divide its sizes."""
    said = processor.to_dict()
    if fixed is not None:
        off = ("do_center_crop", "do_pad", "do_split_image", "keep_aspect_ratio")
        exact = {"size_divisor": 0, "ensure_multiple_of": 1, "pad_size": None}
        made: dict[str, Any] = {key: False for key in off if said.get(key)}
        made |= {key: value for key, value in exact.items() if said.get(key)}
        return made | {"size": {"height": fixed[0], "width": fixed[1]}, "do_resize": True}
    made = {"do_split_image": False, "size": _square(said)} if said.get("do_split_image") and whole else {}
    sizes = {**said, **made}
    if shrink > 1:
        for key in ("size", "crop_size", "pad_size"):
            if sizes.get(key) is not None and (key != "crop_size" or said.get("do_center_crop")):
                made[key] = {name: -(-side // shrink) for name, side in dict(sizes[key]).items() if side}
    return made


def _square(said: Mapping[str, Any]) -> dict[str, int]:
    side = said["size"]["shortest_edge"]
    return {"height": side, "width": side}
