"""How the reference shows docstrings: `name: meaning` of a parameter or field becomes an item of a list.

A docstring in segc writes `shape: (height, width) in pixels. dynamic: any size instead.` inside its text. As Markdown
that would be one paragraph.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import griffe


class ParameterLists(griffe.Extension):
    """An extension of mkdocstrings' reader of Python code."""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Show the parameters that a function's docstring explains."""
        if func.docstring:
            func.docstring.value = listed(func.docstring.value, (p.name for p in func.parameters))

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Show the fields that a class's docstring explains."""
        if cls.docstring:
            fields = [name for name, member in cls.members.items() if member.is_attribute]
            cls.docstring.value = listed(cls.docstring.value, fields)


def listed(docstring: str, names: Iterable[str]) -> str:
    """The docstring with each `name: meaning` of these names as an item; what follows in a line of its own stays text.

    Several names may share a meaning: `height, width: in pixels`.
    """
    known = "|".join(map(re.escape, names))
    if not known:
        return docstring
    start = re.compile(rf"(?:^|(?<=[.;,)]) )((?:{known})(?:, (?:{known}))*): ")
    return "\n\n".join(_items(part, start) for part in docstring.split("\n\n"))


def _items(paragraph: str, start: re.Pattern[str]) -> str:
    """One paragraph: its items, and before and behind them its text."""
    if paragraph.startswith("    ") or not start.search(paragraph.replace("\n", " ")):
        return paragraph
    text, *rest = re.split(r"\n(?=(?:Raises|Returns|Cost|Source)\b)", paragraph, maxsplit=1)
    before, *pairs = start.split(text.replace("\n", " "))
    items = [f"- `{name}`: {meaning.strip()}" for name, meaning in zip(pairs[::2], pairs[1::2], strict=True)]
    return "\n\n".join(filter(None, [before.strip(), "\n".join(items), *rest]))
