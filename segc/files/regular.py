"""Read untrusted files: regular files only, up to a size limit.

A FIFO may have no writer, and /dev/zero has no end: opening such a file must not block, and reading it must stop.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_KINDS = (
    (stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)  # fmt: skip


class NotRegularError(OSError):
    """The path is not a regular file, or the file is larger than the reader's limit."""

    def __init__(self, reason: str, path: Path) -> None:
        super().__init__(errno.EINVAL, reason, str(path))


def read_regular(path: Path, most: int | None = None) -> bytes:
    """The content of a regular file of at most `most` bytes (None: any size).

    Raises OSError, also for a name that no file can have. Its `strerror` says why in words.
    """
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ValueError as error:  # a NUL byte, or text that is no file name
        raise NotRegularError(f"no file has this name: {error}", path) from error
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):  # before Python opens it, which refuses folders in the system's words
        os.close(handle)
        kind = next((words for is_kind, words in _KINDS if is_kind(status.st_mode)), "no file")
        raise NotRegularError(f"it is {kind}, not a file", path)
    with os.fdopen(handle, "rb") as file:
        if most is not None and status.st_size > most:
            raise NotRegularError(f"it has {status.st_size} bytes, more than the {most} that are read", path)
        return file.read(status.st_size)
