"""Labels: image files whose pixels are class numbers, and what the numbers mean."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from segc.errors import Code, FileError, UsageError
from segc.files.names import IMAGE_EXTENSIONS
from segc.files.regular import read_regular
from segc.validation.areas import Map

IGNORE = 255
LOSSY = frozenset({".jpg", ".jpeg"})
LABEL_EXTENSIONS = (IMAGE_EXTENSIONS | {".gif"}) - LOSSY
_BYTES = 1 << 32
_PILLOW_MODES = ("1", "L", "P", "I;16", "I;16B", "I")


@dataclass(frozen=True)
class Rules:
    """What the numbers in label files mean, in the order in which mmseg applies it.

    reduce_zero_label: 0 becomes `ignore_index`, and every other number but `ignore_index` one less. label_map: other
    numbers for those that are left. ignore_index: pixels that do not count.
    """

    ignore_index: int = IGNORE
    reduce_zero_label: bool = False
    label_map: Mapping[int, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        mapped = {str(old): new for old, new in sorted(self.label_map.items())}
        return {
            "ignore_index": self.ignore_index, "reduce_zero_label": self.reduce_zero_label, "label_map": mapped,
        }  # fmt: skip

    def applied(self, numbers: Map) -> Map:
        """Class numbers of a file's numbers, both (H, W)."""
        if not self.reduce_zero_label and not self.label_map:
            return numbers
        table = np.arange(1 << (8 * numbers.itemsize))
        if self.reduce_zero_label:
            table = np.where((table == 0) | (table == self.ignore_index), self.ignore_index, table - 1)
        reduced = table.copy()
        for old, new in self.label_map.items():
            table[reduced == old] = new
        return table[numbers]


def read_label(path: Path, rules: Rules) -> Map:
    """The class numbers of a label file (H, W): the indices of a palette image, or the values of a grey one.

    Raises FileError when it cannot be read, or when its pixels are no numbers: colours, or what JPEG makes of them.
    """
    from PIL import Image

    if path.suffix.lower() in LOSSY:
        raise _unusable(path, "JPEG changes the numbers of pixels", "save labels as PNG")
    try:
        with Image.open(io.BytesIO(read_regular(path, _BYTES))) as image:
            if image.mode not in _PILLOW_MODES:
                raise _unusable(
                    path, f"its pixels are colours (Pillow's mode {image.mode}), not class numbers",
                    "save class numbers, as a grey PNG or one with a palette",
                )  # fmt: skip
            numbers = np.asarray(image)
    except Image.DecompressionBombError as error:
        raise FileError(
            f"the label {path} is too large", code=Code.IMAGE_TOO_LARGE, because=str(error), so="cut it into tiles"
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # what Pillow raises for damaged files
        reason = getattr(error, "strerror", None) or str(error)
        raise _unusable(path, reason, "copy it again, or convert it to PNG") from error
    if numbers.dtype.itemsize > 2 and (numbers.min() < 0 or numbers.max() > 65535):
        raise _unusable(path, f"it has the number {numbers.max()}", "class numbers go from 0 to 65535")
    return rules.applied(numbers.astype(np.uint8 if numbers.dtype.itemsize == 1 else np.uint16))


def parse_label_map(text: str, ignore_index: int) -> dict[int, int]:
    """'7=0,8=1,9=ignore' as numbers. Raises UsageError."""
    found = {}
    for part in filter(None, text.split(",")):
        old, equals, new = (word.strip() for word in part.partition("="))
        if not (equals and old.isdecimal() and (new.isdecimal() or new == "ignore")):
            raise UsageError(
                f"--label-map '{part}' is not OLD=NEW", code=Code.INVALID_NUMBER,
                because="OLD is a number in the label files, NEW a class number or the word ignore",
                so="for example --label-map 7=0,8=1,9=ignore",
            )  # fmt: skip
        found[int(old)] = ignore_index if new == "ignore" else int(new)
    return found


def _unusable(path: Path, because: str, so: str) -> FileError:
    return FileError(f"the label {path} cannot be used", code=Code.LABEL_UNUSABLE, because=because, so=so)
