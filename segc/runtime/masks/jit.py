"""How the kernels of segc.runtime.masks are compiled. Imported only where numba is installed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numba

_OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": {"contract"}, "boundscheck": False}


def compiled(function: Callable[..., Any]) -> Any:
    """`function`, compiled at its first call; the result is cached on disk where the cache folder takes it."""
    try:
        kernel = numba.njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # no writable cache folder
        return numba.njit(**_OPTIONS)(function)
    save = kernel._cache.save_overload

    def save_if_possible(*of: Any) -> None:
        with contextlib.suppress(OSError):  # the disk is full: compiled code needs no cache
            save(*of)

    kernel._cache.save_overload = save_if_possible
    return kernel
