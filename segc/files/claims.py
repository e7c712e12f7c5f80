"""Unfinished files and folders, and those that a killed process left behind.

NAME is written under the temporary name `.NAME.segc-` plus 16 hexadecimal digits, in the same folder and so on the same
file system. The writing process holds a lock on it. The lock ends with the process, so an unlocked temporary file is a
leftover. Without such locks (Windows, some network file systems) nothing is treated as a leftover.
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
    """A temporary name in the destination's folder. Its 64 random bits make it unique among processes."""
    return final.with_name(f".{final.name}.segc-{secrets.token_hex(8)}")


@contextmanager
def in_the_making(final: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """Let `make` create a temporary path, and delete whatever still has that name when the block ends."""
    path = beside(final)
    try:  # from here on, so that an interrupt finds it in the finally below
        make(path)
        with claimed(path):
            yield path
    finally:
        remove(path)


@contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Lock a file or folder for the block, so that no process treats it as a leftover. It may be renamed meanwhile."""
    handle = _locked(path)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def left_over(final: Path, suffix: str = "") -> list[Path]:
    """Temporary paths of `final` whose process was killed. suffix: text after the digits of their names."""
    pattern = re.compile(rf"\.{re.escape(final.name)}\.segc-[0-9a-f]{{16}}{re.escape(suffix)}")
    with contextlib.suppress(OSError):
        return [path for path in sorted(final.parent.iterdir()) if pattern.fullmatch(path.name) and not _held(path)]
    return []


def left_over_in(folder: Path, ending: str) -> list[Path]:
    """Leftovers in a folder whose final names end with `ending`."""
    pattern = re.compile(rf"\..+{re.escape(ending)}\.segc-[0-9a-f]{{16}}")
    return [path for path in sorted(folder.iterdir()) if pattern.fullmatch(path.name) and not _held(path)]


def remove(path: Path) -> None:
    """Delete a file or folder if it exists. Errors are ignored; interrupts take effect afterwards."""
    with held():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
            return
        with contextlib.suppress(OSError):
            path.unlink()


def sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the disk."""
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
    """The descriptor of the locked file. None: locks are unavailable, or another process holds it."""
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
