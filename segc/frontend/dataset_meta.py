"""Class names and colours of checkpoints and configs: values of any type become checked ones, or are left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class DatasetMeta:
    """classes, palette (RGB, one colour for each class): None where there are none, or none that can be used.

    notes: why something that is there is not used.
    """

    classes: tuple[str, ...] | None = None
    palette: tuple[Colour, ...] | None = None
    notes: tuple[str, ...] = ()


NO_META = DatasetMeta()


def read(classes: object, palette: object, where: str) -> DatasetMeta:
    """Classes and palette of any type. where: whose they are, for the notes. A palette without classes says nothing."""
    if classes is None:
        return NO_META
    names = _names(classes)
    if names is None:
        return DatasetMeta(notes=(f"the classes of {where} are not used: they are no list of names",))
    if palette is None:
        return DatasetMeta(names)
    colours = _colours(palette)
    if colours is None or len(colours) != len(names):
        wanted = f"{len(names)} colours of three numbers from 0 to 255"
        return DatasetMeta(names, notes=(f"the palette of {where} is not used: it is no list of {wanted}",))
    return DatasetMeta(names, colours)


def _plain(value: object) -> object:
    """NumPy arrays and scalars as Python has them."""
    return value.tolist() if type(value).__module__ == "numpy" and hasattr(value, "tolist") else value


def _names(value: object) -> tuple[str, ...] | None:
    value = _plain(value)
    if not isinstance(value, list | tuple) or not all(isinstance(name, str | int) for name in value):
        return None
    names = tuple(map(str, value))
    return names if all(name.isascii() or _is_unicode(name) for name in names) else None


def _is_unicode(text: str) -> bool:
    """Whether UTF-8 has it: half of a surrogate pair it has not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _colours(value: object) -> tuple[Colour, ...] | None:
    value = _plain(value)
    if not isinstance(value, list | tuple):
        return None
    colours = tuple(_colour(_plain(colour)) for colour in value)
    return None if None in colours else colours  # type: ignore[return-value]


def _colour(value: object) -> Colour | None:
    if not isinstance(value, list | tuple) or len(value) != 3:
        return None
    parts = tuple(map(_byte, value))
    return None if None in parts else parts  # type: ignore[return-value]


def _byte(value: Any) -> int | None:
    value = _plain(value)
    usable = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 255
    return int(value) if usable and value == int(value) else None
