"""Errors of the operating system on writing a file, turned into errors for users."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from segc.errors import Code, FileError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def file_errors(
    what: str, path: Path, *, needed: Callable[[], int] | None = None, only: tuple[int, ...] = ()
) -> Iterator[None]:
    """Turn an OSError in the block into a FileError that says `what` cannot be written.

    path: a path on the disk in question. needed: returns the bytes to write, for the message about a full disk. only:
    convert these error numbers only; empty converts all.
    """
    try:
        yield
    except OSError as error:
        if only and error.errno not in only:
            raise
        raise _unwritable(what, path, error, needed) from error


def _unwritable(what: str, path: Path, error: OSError, needed: Callable[[], int] | None) -> FileError:
    because = [f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")]
    full = error.errno in FULL
    if full and needed is not None:
        because.append(f"at least {needed():,} bytes are needed")
    if full and (room := free_bytes(path)) is not None:
        because.append(f"{room:,} bytes are free")
    return FileError(
        f"{what} cannot be written", code=Code.UNWRITABLE, because=because,
        so="free some space or choose another disk with -o; nothing was left behind"
        if full
        else "choose a folder you can write to with -o",
    )  # fmt: skip


def free_bytes(path: Path) -> int | None:
    """Bytes available to this user on the disk of `path` or of its nearest existing parent. None: unknown."""
    if not hasattr(os, "statvfs"):
        return None
    for folder in (path, *path.resolve().parents):
        with contextlib.suppress(OSError):
            found = os.statvfs(folder)
            return found.f_bavail * found.f_frsize
    return None
