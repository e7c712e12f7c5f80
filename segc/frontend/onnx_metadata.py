"""What a file of a model and the files beside it say about preprocessing and classes, in the forms in use.

OpenVINO's ModelAPI writes `model_info mean_values` and its like, for values 0 to 255; QGIS's deepness writes JSON in
`standardization_mean` and its like, for values 0 to 1; Ultralytics writes `names`. Hugging Face keeps a
preprocessor_config.json and a config.json in the model's folder.
"""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from segc.files.regular import read_regular
from segc.frontend.given import names_of
from segc.frontend.model import ModelInfo, of_shifted

_LARGEST = 1 << 24  # bytes of a JSON file that is read
BESIDE = "preprocessor_config.json"


@dataclass
class Described:
    """What was found. by: where, in words. mean, std: for values 0 to 255, one number or one for each channel."""

    by: list[str] = field(default_factory=list)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    channel_order: str = ""
    classes: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    threshold: float | None = None

    def applied(self, info: ModelInfo, free: bool) -> ModelInfo:
        """`info` with what was found and fits the input. free: the file leaves its size open."""
        mean, std = (numbers * info.in_channels if len(numbers) == 1 else numbers for numbers in (self.mean, self.std))
        fits = len(mean) in (0, info.in_channels) and len(std) in (0, info.in_channels) and all(std)
        return replace(
            info,
            mean=mean if mean and fits else info.mean,
            std=std if std and fits else info.std,
            channel_order=self.channel_order or info.channel_order,
            classes=self.classes or info.classes,
            shape=self.size if free and self.size else info.shape,
            threshold=self._decides(info),
        )

    def _decides(self, info: ModelInfo) -> float | None:
        if self.threshold is None:
            return info.threshold
        if info.shifted:
            return of_shifted(self.threshold)
        return self.threshold if info.threshold is None else info.threshold

    def note(self, info: ModelInfo) -> str:
        """Where the preprocessing is from, and what it is."""
        numbers = (f"{name} {', '.join(f'{v:g}' for v in getattr(info, name))}" for name in ("mean", "std"))
        return f"preprocessing is that of {' and '.join(self.by)}: {info.channel_order}, {', '.join(numbers)}"


def described(props: Mapping[str, str], path: Path) -> Described:
    """What the metadata of the file at `path` says, or else the files in it or beside it.

    props: keys and values in the file; the names of Hugging Face's files are keys of files in it.
    """
    found = Described()
    for name, read in (("ModelAPI's metadata", _of_model_api), ("deepness's metadata", _of_deepness)):
        if not found.by and read(props, found):
            found.by.append(name)
    if not found.by:
        _of_hugging_face(props, path, found)
    return found


def _of_model_api(props: Mapping[str, str], found: Described) -> bool:
    info = {
        key.split()[1]: value for key, value in props.items() if key.startswith("model_info ") and key.count(" ") == 1
    }
    found.mean, found.std = _numbers(info.get("mean_values", "")), _numbers(info.get("scale_values", ""))
    if "reverse_input_channels" in info:
        found.channel_order = "RGB" if info["reverse_input_channels"].lower() in ("true", "yes", "1") else "BGR"
    found.classes = tuple(info.get("labels", "").split())
    return bool(info)


def _of_deepness(props: Mapping[str, str], found: Described) -> bool:
    """Names alone may be Ultralytics's: then the values of images are fed as they are."""
    mean, std = (_scaled(_value(props.get(f"standardization_{name}", ""))) for name in ("mean", "std"))
    if "model_type" in props or mean or std:  # deepness divides by 255 first, whatever else it does
        found.mean, found.std = mean or (0.0,), std or (255.0,)
    found.classes = names_of(_value(props.get("class_names", props.get("names", "")))) or ()
    limit = _value(props.get("seg_thresh", ""))
    found.threshold = float(limit) if isinstance(limit, (int, float)) and 0 < limit < 1 else None
    return bool(found.mean or found.classes)


def _of_hugging_face(props: Mapping[str, str], path: Path, found: Described) -> None:
    config, labels = (
        _value(props[name]) if name in props else _file(path.parent / name) for name in (BESIDE, "config.json")
    )
    if isinstance(config, dict):
        found.by.append(BESIDE)
        _of_processor(config, found)
    if isinstance(labels, dict) and (names := names_of(labels)):
        found.by.append("config.json")
        found.classes = names


def _of_processor(config: dict[str, Any], found: Described) -> None:
    """Hugging Face's image processor: (value * rescale_factor - image_mean) / image_std."""
    factor = config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1.0
    by = float(factor) if isinstance(factor, (int, float)) and factor > 0 else 1.0
    normalizes = config.get("do_normalize", True)
    mean, std = (_list(config.get(f"image_{name}")) if normalizes else () for name in ("mean", "std"))
    found.mean = _over(mean or (0.0,), by)
    found.std = _over(std or (1.0,), by)
    found.channel_order = "BGR" if config.get("do_flip_channel_order") else "RGB"
    size = config.get("size")
    sides = (size.get("height"), size.get("width")) if isinstance(size, dict) else (size, size)
    if config.get("do_resize", True) and all(isinstance(side, int) and 0 < side < 1 << 15 for side in sides):
        found.size = (int(sides[0]), int(sides[1]))  # type: ignore[arg-type]


def _file(path: Path) -> Any:
    try:
        return json.loads(read_regular(path, _LARGEST).decode())
    except (OSError, ValueError, RecursionError):  # a file of another kind with this name
        return None


def _value(text: str) -> Any:
    """JSON, or a Python literal as some writers have it; None for neither."""
    readers: tuple[Callable[[str], Any], ...] = (json.loads, ast.literal_eval)
    for read in readers:
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return None


def _scaled(value: Any) -> tuple[float, ...]:
    return _over(_list(value), 1 / 255)


def _over(numbers: tuple[float, ...], by: float) -> tuple[float, ...]:
    return numbers if by == 1.0 else tuple(float(f"{number / by:.9g}") for number in numbers)


def _list(value: Any) -> tuple[float, ...]:
    """Finite numbers; nothing for anything else."""
    values = value if isinstance(value, list) else [value]
    good = all(isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) for v in values)
    return tuple(map(float, values)) if good else ()


def _numbers(text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in text.replace(",", " ").split())
    except ValueError:
        return ()
    return found if all(map(math.isfinite, found)) else ()
