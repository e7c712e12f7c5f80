"""Swap two file names atomically, on systems that support it."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

_AT_FDCWD = -100  # names are relative to the working folder
_RENAME_EXCHANGE = 2  # of Linux
_RENAME_SWAP = 2  # of macOS
_CALL_NUMBER = {"x86_64": 316, "aarch64": 276}  # of renameat2, for C libraries without a function for it
_CANNOT = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM)  # the kernel or the file system has no exchange


def exchange(a: Path, b: Path) -> bool:
    """Swap the names `a` and `b`. Both must exist on the same file system.

    Returns False, with nothing changed, if the system or the file system does not support it. Raises OSError for any
    other failure.
    """
    call = _call()
    if call is None:
        return False
    if call(os.fsencode(a), os.fsencode(b)) == 0:
        return True
    number = ctypes.get_errno()
    if number in _CANNOT:
        return False
    raise OSError(number, os.strerror(number), str(a), None, str(b))


@cache
def _call() -> Callable[[bytes, bytes], int] | None:
    """The system's function that swaps two names, or None."""
    try:
        library = ctypes.CDLL(None, use_errno=True)
    except (OSError, TypeError):  # Windows
        return None
    if sys.platform == "darwin" and hasattr(library, "renamex_np"):
        return lambda a, b: int(library.renamex_np(a, b, ctypes.c_uint(_RENAME_SWAP)))
    if not sys.platform.startswith("linux"):
        return None
    names = ctypes.c_int(_AT_FDCWD)
    if hasattr(library, "renameat2"):
        return lambda a, b: int(library.renameat2(names, a, names, b, ctypes.c_uint(_RENAME_EXCHANGE)))
    if (number := _CALL_NUMBER.get(platform.machine())) is None:
        return None
    return lambda a, b: int(library.syscall(ctypes.c_long(number), names, a, names, b, ctypes.c_uint(_RENAME_EXCHANGE)))
