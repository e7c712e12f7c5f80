"""The folder that traces are kept in: who may read it, how large it gets, and how entries come and go."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

VARIABLE, LIMIT = "SEGC_CACHE", "SEGC_CACHE_LIMIT"
USUAL_LIMIT = 8.0  # GiB
_STAGED = "."  # how names of entries in the making begin


@dataclass(frozen=True)
class Kept:
    """What the folder holds. path: None if nothing is kept. why: what stands against using it."""

    path: Path | None
    entries: int
    bytes: int
    why: str = ""


def place() -> Path | None:
    """The folder, which may not exist yet: that of SEGC_CACHE, which is empty for none, or the usual one."""
    if (named := os.environ.get(VARIABLE)) is not None:
        return Path(named) if named else None
    home = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    return Path(home) / "segc" / "traces"


def usable(folder: Path) -> str:
    """Make the folder, for its owner alone; or why it cannot be used, else ""."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        return error.strerror or str(error)
    if hasattr(os, "geteuid") and (status.st_uid != os.geteuid() or status.st_mode & 0o077):
        return "others may write or read it: its mode must be 0700, and it must be yours"
    return "" if folder.is_dir() and not folder.is_symlink() else "it is no folder"


def kept() -> Kept:
    """What is kept."""
    folder = place()
    if folder is None or not folder.is_dir():
        return Kept(folder, 0, 0)
    entries = list(_entries(folder))
    return Kept(folder, len(entries), sum(map(_size, entries)), usable(folder))


def clear() -> Kept:
    """Delete all, and say what was kept."""
    before = kept()
    if before.path is not None and not before.why:
        for entry in (*_entries(before.path), *before.path.glob(f"{_STAGED}*")):
            shutil.rmtree(entry, ignore_errors=True)
    return before


def staged(folder: Path) -> Path:
    """A new folder for an entry in the making."""
    return Path(tempfile.mkdtemp(prefix=_STAGED, dir=folder))


def publish(staging: Path, entry: Path) -> None:
    """Let the entry take its name in one step. Another process may have been first: then that one's is replaced.

    A reader that has the old one open reads on; one that opens files later finds what is missing, and traces.
    """
    old = staged(entry.parent)
    try:
        if entry.exists():
            entry.replace(old / "old")
        staging.replace(entry)
    except OSError:  # another process is publishing the same
        shutil.rmtree(staging, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    _shrink(entry.parent, keep=entry)


def touch(entry: Path) -> None:
    """Note that the entry was used: what was not used for longest goes first."""
    try:
        os.utime(entry)
    except OSError:
        return


def _entries(folder: Path) -> Iterator[Path]:
    return (each for each in folder.iterdir() if each.is_dir() and not each.name.startswith(_STAGED))


def _size(entry: Path) -> int:
    try:
        return sum(each.stat().st_size for each in entry.iterdir())
    except OSError:
        return 0


def _shrink(folder: Path, keep: Path) -> None:
    """Delete what was not used for longest until the rest is within the limit."""
    try:
        limit = float(os.environ.get(LIMIT, USUAL_LIMIT)) * (1 << 30)
    except ValueError:
        limit = USUAL_LIMIT * (1 << 30)
    sized = []
    for entry in _entries(folder):
        try:
            sized.append((entry.stat().st_mtime, entry, _size(entry)))
        except OSError:
            continue
    total = sum(size for *_, size in sized)
    for _, entry, size in sorted(sized, key=lambda row: row[0]):
        if total <= limit:
            return
        if entry != keep or size > limit:
            shutil.rmtree(entry, ignore_errors=True)
            total -= size
