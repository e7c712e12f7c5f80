"""A task that calls functions: each question is a function and its arguments."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

Call = tuple[Callable[..., Any], tuple[object, ...]]


def prepare(module: str) -> None:
    """Import the function's module, for all forks."""
    importlib.import_module(module)


def handler() -> Callable[[Call], object]:
    """The function that answers."""
    return lambda question: question[0](*question[1])
