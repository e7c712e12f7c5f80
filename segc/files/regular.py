"""Reading files that anybody may have put there: regular ones only, and none larger than the reader takes.

A FIFO may have no writer, and /dev/zero has no end: opening such a file must not wait, reading it must not go on for
ever.
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
    """What is read is no file with an end, or a larger one than the reader takes."""

    def __init__(self, reason: str, path: Path) -> None:
        super().__init__(errno.EINVAL, reason, str(path))


def read_regular(path: Path, most: int | None = None) -> bytes:
    """The content of a regular file of at most `most` bytes.

    Raises OSError, whose `strerror` says why in words; a name that no file can have is one too.
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
