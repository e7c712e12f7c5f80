"""What the user says about a model that its source does not say, or says otherwise: preprocessing, names, outputs."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from segc.errors import Code, FileError, SourceError, UsageError
from segc.files.regular import read_regular
from segc.frontend.model import ModelInfo, of_shifted
from segc.frontend.output_form import VALUES

Colour = tuple[int, int, int]
_LARGEST = 1 << 20  # bytes of a file with names or colours


@dataclass(frozen=True)
class Given:
    """Options of a compile, None for what was not given.

    An image's values become (value * scale - mean) / std, in `channel_order`. threshold: of a head with one channel.
    output_name: of a model with several outputs. output_values: "logits", "probabilities" or "classes". dequantize:
    compute a quantized ONNX file in float32. trust_remote_code: run the Python code of a transformers model's folder.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    channel_order: str | None = None
    scale: float | None = None
    classes: tuple[str, ...] | None = None
    palette: tuple[Colour, ...] | None = None
    threshold: float | None = None
    output_name: str | None = None
    output_values: str | None = None
    dequantize: bool = False
    trust_remote_code: bool = False

    @classmethod
    def of(
        cls, *, mean: Sequence[float] | None, std: Sequence[float] | None, channel_order: str | None,
        scale: float | None, classes: Sequence[str] | str | Path | None,
        palette: Sequence[Sequence[int]] | str | Path | None, threshold: float | None, output_name: str | None,
        output_values: str | None, dequantize: bool, trust_remote_code: bool = False,
    ) -> Given:  # fmt: skip
        """From the parameters of `segc.compile`, checked; names and colours may lie in a file.

        Raises UsageError, SourceError (the file holds none), FileError.
        """
        for name, numbers in (("mean", mean), ("std", std)):
            if numbers is not None and not (len(numbers) and all(map(_is_number, numbers))):
                raise _wrong(f"--{name} {numbers}", "it takes one finite number for each channel")
        if std is not None and not all(std):
            raise _wrong(f"--std {tuple(std)}", "values are divided by it: none may be 0")
        if scale is not None and not (_is_number(scale) and scale > 0):
            raise _wrong(f"--scale {scale}", "values are multiplied by it: it is larger than 0", "for example 1/255")
        if threshold is not None and not (_is_number(threshold) and 0 < threshold < 1):
            raise _wrong(f"--threshold {threshold}", "it is a probability between 0 and 1")
        order = None if channel_order is None else channel_order.upper()
        if order not in (None, "RGB", "BGR"):
            raise UsageError(f"there is no channel order '{channel_order}'", code=Code.UNKNOWN_CHOICE, so="RGB or BGR")
        if output_values not in (None, *VALUES):
            raise UsageError(
                f"an output holds no '{output_values}'", code=Code.UNKNOWN_CHOICE, so=f"{', '.join(VALUES)}",
            )  # fmt: skip
        return cls(
            None if mean is None else tuple(map(float, mean)), None if std is None else tuple(map(float, std)), order,
            scale, None if classes is None else class_names(classes), None if palette is None else colours(palette),
            threshold, output_name, output_values, dequantize, trust_remote_code,
        )  # fmt: skip

    def _decides(self, info: ModelInfo) -> float | None:
        wanted = self.threshold
        return of_shifted(wanted) if info.shifted and wanted is not None else wanted

    def names(self) -> list[str]:
        """The options that were given, as typed."""
        return [f"--{name.replace('_', '-')}" for name, value in vars(self).items() if value not in (None, False)]

    def applied(self, info: ModelInfo) -> ModelInfo:
        """`info` with what was given in place of what the source says. Raises UsageError for numbers that do not fit.

        With a scale, mean and std are those of scaled values; the info holds them for values 0 to 255.
        """
        by = 1.0 if self.scale is None else self.scale
        mean, std = self.mean, self.std
        if self.scale is not None:
            described = (any(info.mean) and mean is None) or (set(info.std) != {1.0} and std is None)
            if described:
                raise UsageError(
                    "--scale needs --mean and --std", code=Code.CONFLICTING_OPTIONS,
                    because="the source has a mean and std of its own, for values that are not scaled",
                )  # fmt: skip
            mean, std = mean or (0.0,), std or (1.0,)
        for name, numbers in (("mean", self.mean), ("std", self.std)):
            if numbers is not None and len(numbers) not in (1, info.in_channels):
                raise UsageError(
                    f"--{name} has {len(numbers)} numbers", code=Code.UNSUPPORTED_BY_MODEL,
                    because=f"the model's input has {info.in_channels} channels", so="give one for each",
                )  # fmt: skip
        made = replace(
            info,
            mean=info.mean if mean is None else _each(mean, info.in_channels, by),
            std=info.std if std is None else _each(std, info.in_channels, by),
            channel_order=self.channel_order or info.channel_order,
            output=self.output_name,
            values=self.output_values,
            dequantized=self.dequantize,
            threshold=info.threshold if self.threshold is None else self._decides(info),
        )
        if self.classes is not None:
            made = replace(made, classes=self.classes, named_by="--classes")
        return made if self.palette is None else replace(made, palette=self.palette, coloured_by="--palette")


def refuse_for_configs(given: Given) -> None:
    """Refuse the options for an mmseg config, which says all this itself. Raises UsageError."""
    if names := given.names():
        raise UsageError(
            f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} for ONNX and Python sources",
            code=Code.CONFLICTING_OPTIONS, because="an mmseg config says it itself", so="omit it, or change the config",
        )  # fmt: skip


def class_names(given: Sequence[str] | str | Path) -> tuple[str, ...]:
    """Class names in order: a sequence, or a file with one a line, a JSON list, or JSON numbers with their names.

    Raises SourceError, FileError.
    """
    if not isinstance(given, (str, Path)):
        return tuple(map(str, given))
    path = Path(given)
    text = _read(path)
    if path.suffix == ".json":
        names = names_of(_json(text, path))
    else:
        names = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not names:
        raise _no(path, "class names", "it needs one name a line, a JSON list, or a JSON object of numbers with names")
    return names


def names_of(value: Any) -> tuple[str, ...] | None:
    """Class names of a list, or of a dict from 0 on; also of one with such a dict in `id2label`. None for no names."""
    if isinstance(value, dict) and isinstance(value.get("id2label"), dict):
        value = value["id2label"]
    if isinstance(value, dict):
        numbered = {int(key): name for key, name in value.items() if re.fullmatch(r"\d{1,6}", str(key))}
        if len(numbered) != len(value) or sorted(numbered) != list(range(len(numbered))):
            return None
        value = [numbered[at] for at in range(len(numbered))]
    good = isinstance(value, (list, tuple)) and value and all(isinstance(name, str) for name in value)
    return tuple(value) if good else None


def colours(given: Sequence[Sequence[int]] | str | Path) -> tuple[Colour, ...]:
    """RGB colours in order: a sequence, or a file with '#rrggbb' or three numbers a line, or a JSON list of threes.

    Raises SourceError, FileError.
    """
    path = Path(given) if isinstance(given, (str, Path)) else None
    rows: Any
    if path is None:
        rows = given
    else:
        text = _read(path)
        rows = (
            _json(text, path) if path.suffix == ".json" else [_row(line) for line in text.splitlines() if line.strip()]
        )
    found = _colours(rows)
    if found is None:
        raise _no(
            path or Path("the palette"), "colours", "it needs three numbers from 0 to 255, or #rrggbb, for each class"
        )
    return found


def _colours(rows: Any) -> tuple[Colour, ...] | None:
    if not isinstance(rows, (list, tuple)) or not rows:
        return None
    made = []
    for row in rows:
        good = isinstance(row, (list, tuple)) and len(row) == 3 and all(type(v) is int and 0 <= v <= 255 for v in row)
        if not good:
            return None
        made.append((row[0], row[1], row[2]))
    return tuple(made)


def _row(line: str) -> list[int]:
    if match := re.fullmatch(r"#?([0-9a-fA-F]{6})", line.strip()):
        return list(bytes.fromhex(match[1]))
    parts = re.split(r"[\s,;]+", line.strip())
    return [int(part) for part in parts] if all(re.fullmatch(r"\d{1,3}", part) for part in parts) else []


def _read(path: Path) -> str:
    try:
        return read_regular(path, _LARGEST).decode()
    except OSError as error:
        raise FileError(
            f"'{path}' cannot be read", code=Code.UNREADABLE, because=error.strerror or str(error),
            so="give the path of a text file",
        ) from error  # fmt: skip
    except UnicodeDecodeError as error:
        raise _no(path, "text", "it is not UTF-8") from error


def _json(text: str, path: Path) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _no(path, "JSON", str(error)) from error


def _no(path: Path, what: str, because: str) -> SourceError:
    return SourceError(f"'{path}' holds no {what}", code=Code.CLASSES, because=because, so="correct it")


def _wrong(what: str, because: str, so: str = "correct it") -> UsageError:
    return UsageError(f"{what} is not valid", code=Code.INVALID_NUMBER, because=because, so=so)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _each(numbers: tuple[float, ...], channels: int, by: float) -> tuple[float, ...]:
    """One number for each channel, for values that are not scaled; rounded to what float32 can tell apart."""
    each = numbers if len(numbers) == channels else numbers * channels
    return each if by == 1.0 else tuple(float(f"{number / by:.9g}") for number in each)
