"""Passes from text, as the command line writes them: NAME or NAME:option=value,option=value.

The options of a pass are the fields of its dataclass; a value is read as the field's type says: ints, floats, text,
true and false, none, and in parentheses tuples, and `field=value` parts of an option that is a dataclass.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass
from typing import Any, Literal

from segc.errors import Code, UsageError
from segc.passes import REGISTRY
from segc.passes.base import Pass
from segc.suggestions import closest


def parse(text: str) -> Pass:
    """The pass that "NAME" or "NAME:option=value,option=value" means. Raises UsageError."""
    name, _, rest = text.partition(":")
    cls = REGISTRY.get(name)
    if cls is None:
        alike = closest(name, [*REGISTRY])
        so = f"did you mean {' or '.join(alike)}?" if alike else "`segc passes` lists them"
        raise UsageError(
            f"there is no pass '{name}'",
            code=Code.UNKNOWN_NAME,
            because="`segc passes` lists all" if alike else (),
            so=so,
        )
    known = options(cls)
    values: dict[str, Any] = {}
    for part in split(rest):
        key, equals, value = part.partition("=")
        key = key.strip().replace("-", "_")
        if key not in known:
            raise UsageError(
                f"pass '{name}' has no option '{key}'",
                code=Code.PASS_OPTIONS,
                because="it has " + "; ".join(described(o) for o in known.values()) if known else "it has none",
                so=f"did you mean {' or '.join(alike)}?" if (alike := closest(key, [*known])) else (),
            )
        values[key] = _value(name, known[key], value.strip() if equals else "true")
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:
        raise UsageError(f"pass '{name}' refuses these options", code=Code.PASS_OPTIONS, because=str(error)) from error


@dataclass(frozen=True)
class Option:
    """A field of a pass: its name, type, and default (`required` when there is none)."""

    name: str
    type: Any
    default: Any = None
    required: bool = False


def options(cls: type[Pass]) -> dict[str, Option]:
    """The options of a pass by name."""
    if not dataclasses.is_dataclass(cls):
        return {}
    hints = typing.get_type_hints(cls)
    made = {}
    for f in dataclasses.fields(cls):
        default = f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default
        required = default is dataclasses.MISSING
        made[f.name] = Option(f.name, hints[f.name], None if required else default, required)
    return made


def described(option: Option) -> str:
    """The option as help shows it: "size_limit: int = 1048576"."""
    default = "" if option.required else f" = {spelled(option.default)}"
    return f"{option.name}: {type_name(option.type)}{default}"


def spelled(value: Any) -> str:
    """A value as the command line takes it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (tuple, list)):
        return f"({','.join(spelled(v) for v in value)})"
    if isinstance(value, (frozenset, set)):
        return f"({','.join(sorted(spelled(v) for v in value))})"
    if dataclasses.is_dataclass(value):
        return f"({','.join(f'{f.name}={spelled(getattr(value, f.name))}' for f in dataclasses.fields(value))})"
    return str(value)


def type_name(wanted: Any) -> str:
    """A type in words of the command line."""
    if wanted is type(None):
        return "none"
    origin, inner = typing.get_origin(wanted), typing.get_args(wanted)
    if origin is Literal:
        return " | ".join(map(str, inner))
    if origin in (typing.Union, types.UnionType):
        return " | ".join(type_name(t) for t in inner)
    if origin in (tuple, list, frozenset, set):
        return f"({','.join('...' if t is Ellipsis else type_name(t) for t in inner)})"
    if dataclasses.is_dataclass(wanted):
        hints = typing.get_type_hints(wanted)
        return f"({','.join(f'{f.name}={type_name(hints[f.name])}' for f in dataclasses.fields(wanted))})"
    return str(getattr(wanted, "__name__", wanted))


def split(text: str) -> list[str]:
    """Parts between commas, but not between those inside parentheses."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "([") - (letter in ")]")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part for part in parts if part.strip()]


def _value(pass_name: str, option: Option, text: str) -> Any:
    try:
        return convert(option.type, text)
    except ValueError as error:
        raise UsageError(
            f"'{text}' is not a valid value for option '{option.name}' of pass '{pass_name}'",
            code=Code.PASS_OPTIONS,
            because=f"it takes {type_name(option.type)}",
        ) from error


def convert(wanted: Any, text: str) -> Any:
    """`text` as a value of the type `wanted`. Raises ValueError."""
    origin, inner = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (typing.Union, types.UnionType):
        return _first(inner, text)
    if wanted in (type(None), Any) and text.lower() == "none":
        return None
    if origin is Literal:
        return next(value for value in inner if str(value) == text) if text in map(str, inner) else _refuse(text)
    if origin in (tuple, list, frozenset, set):
        return _sequence(origin, inner, text)
    if wanted is bool:
        truth = {"true": True, "1": True, "false": False, "0": False}
        return truth[text.lower()] if text.lower() in truth else _refuse(text)
    if wanted in (int, float):
        return wanted(text)
    if wanted is str:
        return text
    return _fields(wanted, text) if dataclasses.is_dataclass(wanted) else _refuse(text)


def _fields(wanted: Any, text: str) -> Any:
    if text[:1] + text[-1:] != "()":
        return _refuse(text)
    hints, given = typing.get_type_hints(wanted), dict(part.strip().split("=", 1) for part in split(text[1:-1]))
    if not given.keys() <= {f.name for f in dataclasses.fields(wanted)}:
        return _refuse(text)
    return wanted(**{name: convert(hints[name], value) for name, value in given.items()})


def _first(wanted: tuple[Any, ...], text: str) -> Any:
    for one in sorted(wanted, key=lambda t: (t is not type(None), t is str)):  # text takes anything, so it comes last
        try:
            return convert(one, text)
        except ValueError:
            continue
    return _refuse(text)


def _sequence(origin: type, inner: tuple[Any, ...], text: str) -> Any:
    bare = text[1:-1] if text[:1] + text[-1:] in ("()", "[]") else text
    parts = split(bare)
    if origin is tuple and inner and inner[-1] is not Ellipsis:
        if len(parts) != len(inner):
            return _refuse(text)
        return tuple(convert(t, p.strip()) for t, p in zip(inner, parts, strict=True))
    kind = inner[0] if inner else str
    return origin(convert(kind, p.strip()) for p in parts)


def _refuse(text: str) -> Any:
    raise ValueError(text)
