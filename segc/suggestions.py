"""Names that resemble what the user typed, and functions that suggest them for a wrong keyword."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Collection
from typing import ParamSpec, TypeVar

from segc.errors import Code, UsageError

P = ParamSpec("P")
R = TypeVar("R")


def closest(name: str, known: Collection[str], count: int = 3) -> list[str]:
    """Names that `name` begins, or that resemble it. Zoo names are long: what one types is often their beginning."""
    found = [k for k in known if k.startswith(name)] if len(name) > 2 else []
    alike = difflib.get_close_matches(name, [*known], n=count, cutoff=0.5)
    return list(dict.fromkeys([*found, *alike]))[:count]


def did_you_mean(name: str, known: Collection[str]) -> str:
    """'did you mean A or B?', or nothing where no name is close."""
    close = closest(name, known)
    return f"did you mean {' or '.join(close)}?" if close else ""


def checked_keywords(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, which raises UsageError with the closest names, not TypeError, for a keyword it does not have."""
    known = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs:
            if name not in known:
                raise UsageError(
                    f"segc.{function.__name__} has no option '{name}'",
                    code=Code.UNKNOWN_OPTION,
                    because=f"its options are {', '.join(known)}",
                    so=did_you_mean(name, known) or f"help(segc.{function.__name__}) describes them",
                )
        return function(*args, **kwargs)

    return checked
