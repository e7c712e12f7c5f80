"""A task that calls functions. A question is a function and its arguments; the answer is the result."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

Call = tuple[Callable[..., Any], tuple[object, ...]]


def prepare(module: str) -> None:
    """Import the module of the functions, once for all forks."""
    importlib.import_module(module)


def handler() -> Callable[[Call], object]:
    """See segc.isolation.child."""
    return lambda question: question[0](*question[1])
