"""Files and folders in the making, and those that processes left behind when they were killed.

What becomes NAME is made in `.NAME.segc-` and 16 digits beside it, on the same file system. Its process holds a lock on
it, which ends with the process: what nobody holds is left over. Where there are no such locks (Windows, some network
file systems) nothing counts as left over.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from segc.files.interrupts import held

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def beside(final: Path) -> Path:
    """A name of 64 random bits beside the destination, which no other process has."""
    return final.with_name(f".{final.name}.segc-{secrets.token_hex(8)}")


@contextmanager
def in_the_making(final: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """What `make` creates beside the destination; what lies under that name at the end of the block is deleted."""
    path = beside(final)
    try:  # from here on, so that an interrupt finds it in the finally below
        make(path)
        with claimed(path):
            yield path
    finally:
        remove(path)


@contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Hold the lock of a file or folder, so that nobody takes it for left over; it may be renamed."""
    handle = _locked(path)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def left_over(final: Path, suffix: str = "") -> list[Path]:
    """What became neither NAME nor was deleted, because its process was killed; `suffix` follows the digits."""
    pattern = re.compile(rf"\.{re.escape(final.name)}\.segc-[0-9a-f]{{16}}{re.escape(suffix)}")
    with contextlib.suppress(OSError):
        return [path for path in sorted(final.parent.iterdir()) if pattern.fullmatch(path.name) and not _held(path)]
    return []


def left_over_in(folder: Path, ending: str) -> list[Path]:
    """The same for all names in a folder that end so."""
    pattern = re.compile(rf"\..+{re.escape(ending)}\.segc-[0-9a-f]{{16}}")
    return [path for path in sorted(folder.iterdir()) if pattern.fullmatch(path.name) and not _held(path)]


def remove(path: Path) -> None:
    """Delete a file or a folder where there is one; what cannot be deleted stays. Interrupts wait until it is gone."""
    with held():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
            return
        with contextlib.suppress(OSError):
            path.unlink()


def sync(path: Path) -> None:
    """Push a file, or the names in a folder, to the disk."""
    if path.is_dir() and os.name != "posix":
        return  # Windows cannot open a folder
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _held(path: Path) -> bool:
    handle = _locked(path)
    if handle is None:
        return True
    os.close(handle)
    return False


def _locked(path: Path) -> int | None:
    """The file's number with the lock on it, None where there are no locks or another process has it."""
    if fcntl is None:
        return None
    handle = None
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        if handle is not None:
            os.close(handle)
        return None
    return handle
