"""What a front-end rewrite is: a function to replace while tracing, and the package versions it was written for."""

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
    """Releases of a module's package, from `low` to before `high`."""

    module: str
    low: Release
    high: Release

    def misfit(self) -> str | None:
        """Why the imported package is not in the range, or None."""
        installed = str(getattr(sys.modules.get(self.module), "__version__", "?"))
        if self.low <= release(installed) < self.high:
            return None
        wanted = f"{self.module} >= {_shown(self.low)}, < {_shown(self.high)}"
        return f"it is written for {wanted}, and {installed} is installed"


@dataclass(frozen=True)
class Rewrite:
    """While tracing, owner.attribute is replaced by make(original).

    owner: an object, or 'module:name.name' for one whose module may never be imported. dynamic: applies only while
    tracing with symbolic sizes. fits: the package versions it was written for; None for any.
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
    """(major, minor) of a version string; (-1, -1), which is in no range, for other strings."""
    parts = version.split(".")
    try:
        return int(parts[0]), int(parts[1])
    except (IndexError, ValueError):
        return -1, -1


def _shown(version: Release) -> str:
    return ".".join(map(str, version))
