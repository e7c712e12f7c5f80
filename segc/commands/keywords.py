"""Keywords of the public functions: one that a function does not have is an error with a suggestion."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from segc.errors import UsageError
from segc.suggestions import closest

P = ParamSpec("P")
R = TypeVar("R")


def checked_keywords(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, which raises UsageError with the closest names, not TypeError, for a keyword it does not have."""
    known = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs:
            if name not in known:
                close = closest(name, known)
                raise UsageError(
                    f"segc.{function.__name__} has no option '{name}'",
                    because="" if close else f"its options are {', '.join(known)}",
                    so=f"did you mean {' or '.join(close)}?" if close else f"see help(segc.{function.__name__})",
                )
        return function(*args, **kwargs)

    return checked
