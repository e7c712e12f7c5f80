"""Folders of many files that appear complete or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from segc.errors import Code, FileError
from segc.files import claims, folders
from segc.files.errors import FULL, file_errors
from segc.files.interrupts import noted


@dataclass(frozen=True)
class Kind:
    """noun: what such a folder is called. foreign: why deleting one might lose what segc did not write, or None."""

    noun: str
    foreign: Callable[[Path], str | None]


@contextmanager
def write_folder(directory: Path | str, kind: Kind, complete: Callable[[Path], None], *, force: bool) -> Iterator[Path]:
    """Fill the folder that the block is given; then `complete` is called on it, and it takes the name `directory`.

    Parents are created. A folder of the same kind is replaced only with `force`, an empty folder always, anything else
    never. Whatever ends the block early leaves what existed before untouched. Raises FileError.
    """
    final = Path(directory).resolve()
    errors = partial(file_errors, f"the {kind.noun} {directory}", Path(directory))
    with errors():
        folders.clear(final)
        _check_destination(final, kind, force)
        final.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        with errors():
            stage = stack.enter_context(claims.in_the_making(final, Path.mkdir))
        errors = partial(errors, needed=partial(_size, stage))
        with noted():
            with errors(only=FULL):
                yield stage
            with errors():
                complete(stage)
                _sync(stage)
                _check_destination(final, kind, force)
        with errors():
            folders.publish(stage, final)


def files_below(root: Path) -> list[str]:
    """Names of all files, links included, below `root`, sorted."""
    return sorted(
        (Path(folder) / name).relative_to(root).as_posix()
        for folder, below, names in os.walk(root)
        for name in [*names, *(f for f in below if (Path(folder) / f).is_symlink())]
    )


def _check_destination(final: Path, kind: Kind, force: bool) -> None:
    """Refuse to write where something would be lost."""
    if not final.exists() or (final.is_dir() and not any(final.iterdir())):
        return
    if not final.is_dir():
        raise FileError(
            f"{final} is a file",
            code=Code.DESTINATION_TAKEN,
            because=f"a {kind.noun} is a folder",
            so="choose another name with -o",
        )
    if not force:
        raise FileError(
            f"{final} exists already",
            code=Code.DESTINATION_TAKEN,
            so=f"choose another folder with -o, or replace a {kind.noun} with --force",
        )
    if why := kind.foreign(final):
        raise FileError(
            f"{final} is not replaced",
            code=Code.DESTINATION_TAKEN,
            because=why,
            so="choose another folder with -o, or delete this one yourself",
        )


def _sync(root: Path) -> None:
    """Push all to the disk."""
    for name in files_below(root):
        claims.sync(root / name)
    claims.sync(root)


def _size(root: Path) -> int:
    """Bytes of all files below `root`."""
    return sum((root / name).lstat().st_size for name in files_below(root))
