"""Decode JSON into typed values: a dataclass declares what a file may contain, and anything else is refused.

Supported types: str, int, float, bool, None, Any, Literal, tuples, mappings with text keys, unions, and dataclasses of
these; `Annotated` adds `Within` or `Matching`. `tools/schemas.py` writes the same declarations as JSON Schema.
"""

from __future__ import annotations

import contextlib
import re
import reprlib
import sys
import types
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

LARGEST = 1 << 53  # larger integers are not exact in every JSON reader
FLOAT32 = 3.4e38
_LARGEST_FLOAT = sys.float_info.max
KEY = "key"  # in a field's metadata: its name in the file, where that is not a valid Python name
OMITTABLE = {"omittable": True}  # metadata of an optional field

_shown = reprlib.Repr()
_shown.maxstring = _shown.maxother = _shown.maxlong = 100
_shown.maxlist = _shown.maxtuple = _shown.maxdict = 8


class WrongValue(ValueError):  # noqa: N818 - callers turn it into an error that names the file
    """A field with an invalid value. name: dotted path; found: the value as text; wanted: what is accepted."""

    def __init__(self, name: str, found: object, wanted: str) -> None:
        self.name, self.found, self.wanted = name, _shown.repr(found), wanted
        super().__init__(f"{name}: found {self.found}, needed: {wanted}")


@dataclass(frozen=True)
class Within:
    """A range of numbers that includes both ends."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"from {self.low} to {self.high}"


@dataclass(frozen=True)
class Matching:
    """Text that matches `pattern` as a whole. words: the same in English."""

    pattern: str
    words: str


Sha256 = Annotated[str, Matching("[0-9a-f]{64}", "64 hexadecimal digits")]
Number = Annotated[float, Within(-FLOAT32, FLOAT32)]


@dataclass(frozen=True)
class Member:
    """A field of a dataclass and its key in the file."""

    name: str
    key: str
    kind: Any
    required: bool


@cache
def members(kind: type) -> tuple[Member, ...]:
    """The fields of a dataclass, with their keys in the file and their types."""
    hints = get_type_hints(kind, include_extras=True)
    return tuple(
        Member(f.name, f.metadata.get(KEY, f.name), hints[f.name], not f.metadata.keys() & OMITTABLE)
        for f in fields(kind)
    )


def encode(value: Any) -> Any:
    """Turn a typed value into plain JSON values."""
    if is_dataclass(value) and not isinstance(value, type):
        return {
            member.key: encode(getattr(value, member.name))
            for member in members(type(value))
            if member.required or getattr(value, member.name) is not None
        }
    if isinstance(value, Mapping):
        return {key: encode(part) for key, part in value.items()}
    return [encode(part) for part in value] if isinstance(value, (list, tuple)) else value


def decode(kind: Any, value: Any, at: str = "") -> Any:
    """Convert `value`, a result of json.loads, to `kind`. at: the dotted path of the field. Raises WrongValue."""
    if kind is Any:
        return value
    if isinstance(kind, type) and is_dataclass(kind):
        return _decode_fields(kind, value, at)
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _limited(decode(parts[0], value, at), parts[1], at)
    if origin in (types.UnionType, Union):
        return _decode_union([part for part in parts if part is not types.NoneType], value, at, type(None) in parts)
    if origin is Literal:
        require(any(type(value) is type(part) and value == part for part in parts), at, value, _either(parts))
        return value
    if origin is Mapping:
        require(isinstance(value, dict) and all(isinstance(key, str) for key in value), at, value, "an object")
        return {key: decode(parts[1], part, f"{at}.{key}") for key, part in value.items()}
    if origin is tuple:
        require(isinstance(value, list), at, value, "a list")
        kinds = [parts[0]] * len(value) if parts[-1] is Ellipsis else parts
        require(len(kinds) == len(value), at, value, f"{len(kinds)} entries")
        return tuple(decode(k, part, f"{at}[{i}]") for i, (k, part) in enumerate(zip(kinds, value, strict=True)))
    return _decode_plain(kind, value, at)


def require(good: bool, name: str, found: object, wanted: str) -> None:
    """Raise WrongValue unless `good`."""
    if not good:
        raise WrongValue(name, found, wanted)


def _decode_union(kinds: list[Any], value: Any, at: str, optional: bool) -> Any:
    """Decode as the first kind that accepts the value. If none does, raise the first kind's error."""
    if value is None and optional:
        return None
    for kind in kinds[1:]:
        with contextlib.suppress(WrongValue):
            return decode(kind, value, at)
    return decode(kinds[0], value, at)


def _either(parts: tuple[Any, ...]) -> str:
    return " or ".join(map(str, parts))


def _limited(value: Any, limit: Within | Matching, at: str) -> Any:
    if isinstance(limit, Within):
        require(limit.low <= value <= limit.high, at, value, f"a number {limit}")
    else:
        require(re.fullmatch(limit.pattern, value) is not None, at, value, limit.words)
    return value


def _decode_plain(kind: type, value: Any, at: str) -> Any:
    words = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}[kind]
    require(type(value) is kind or (kind is float and type(value) is int), at, value, words)
    if kind is int:
        require(abs(value) <= LARGEST, at, value, f"{words} of at most 2^53")
    if kind is float:
        require(-_LARGEST_FLOAT <= value <= _LARGEST_FLOAT, at, value, words)  # NaN is refused too
        return float(value)
    return value


def _decode_fields(kind: type, value: Any, at: str) -> Any:
    require(isinstance(value, dict), at or "the file as a whole", value, "an object")
    known, dot = {member.key: member for member in members(kind)}, f"{at}." if at else ""
    for key in value:
        require(key in known, f"{dot}{key}", value[key], "no such field")
    for key, member in known.items():
        require(key in value or not member.required, f"{dot}{key}", "nothing", "the field")
    found = {known[key].name: decode(known[key].kind, part, f"{dot}{key}") for key, part in value.items()}
    return kind(**found)
