"""How the kernels of segc.runtime are compiled. Imported only where numba is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

_OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": {"contract"}, "boundscheck": False}


def compiled(function: Callable[..., Any]) -> Any:
    """`function` compiled at its first call; the result is kept on disk where a folder for it can be written."""
    try:
        return numba.njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # no folder to keep it in
        return numba.njit(**_OPTIONS)(function)
