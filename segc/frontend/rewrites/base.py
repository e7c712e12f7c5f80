"""What a front-end rewrite is: a function to replace while tracing, and the versions of its package it fits."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

Function = Callable[..., Any]
Release = tuple[int, int]  # major, minor


@dataclass(frozen=True)
class Versions:
    """Releases of an importable package: `low` and above, below `high`."""

    module: str
    low: Release
    high: Release

    def misfit(self) -> str | None:
        """Why the imported package does not fit, or None."""
        found = str(getattr(sys.modules.get(self.module), "__version__", "?"))
        if self.low <= release(found) < self.high:
            return None
        return f"it fits {self.module} >= {_shown(self.low)}, < {_shown(self.high)}, and {found} is installed"


@dataclass(frozen=True)
class Rewrite:
    """owner.attribute is replaced by make(original) while tracing.

    owner: an object, or 'module:name.name' for one that matters only once its module is imported. dynamic: only while
    tracing with symbolic sizes; other traces see the original. fits: the versions it was written for, None for any.
    """

    name: str
    summary: str
    owner: Any
    attribute: str
    make: Callable[[Function], Function]
    dynamic: bool = False
    fits: Versions | None = None

    def place(self) -> Any | None:
        """The object that owns the attribute; None while its module is not imported."""
        if not isinstance(self.owner, str):
            return self.owner
        module, _, names = self.owner.partition(":")
        loaded = sys.modules.get(module)
        return loaded if loaded is None or not names else reduce(getattr, names.split("."), loaded)


def release(version: str) -> Release:
    """(major, minor) of a version; (-1, -1), which fits nothing, of what is none."""
    parts = version.split(".")
    try:
        return int(parts[0]), int(parts[1])
    except (IndexError, ValueError):
        return -1, -1


def _shown(version: Release) -> str:
    return ".".join(map(str, version))
