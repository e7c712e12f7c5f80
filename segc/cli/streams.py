"""Standard streams that are closed, that cannot say everything, or whose reader goes away."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys

from segc.errors import Code, FileError

_REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


def _failing(encoding: str) -> tuple[str, ...]:
    """Error handlers that fail on a character: UTF-8 has all but halves of surrogate pairs."""
    return ("strict",) if encoding.lower() == "utf-8" else ("strict", "surrogateescape")


def prepare() -> None:
    """Make the standard streams usable: closed ones go nowhere, characters that an encoding lacks are escaped.

    A file that is opened while descriptor 1 is closed becomes descriptor 1, and takes what libraries print.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115 - lives on
        elif (
            isinstance(stream, io.TextIOWrapper)
            and stream is getattr(sys, f"__{name}__")
            and stream.errors in _failing(stream.encoding)
        ):
            stream.reconfigure(errors="backslashreplace")


def finish() -> None:
    """Write out what was printed. Raises BrokenPipeError, OSError."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()


def silence() -> None:
    """Let stdout go nowhere from now on: its reader went away, or its disk is full."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # a stream without descriptor
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def refusal(error: OSError) -> FileError | None:
    """What to say when standard output takes no more; None when the error is about something else."""
    if error.filename is not None or error.errno not in _REFUSED:
        return None
    return FileError(
        "standard output cannot be written", code=Code.UNWRITABLE, because=error.strerror or str(error),
        so="free some space, or send the output elsewhere",
    )  # fmt: skip
