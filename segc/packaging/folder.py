"""A package on disk: a folder that is written whole or not at all, and replaced only if segc wrote all of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from segc.bundle.canonical_json import canonical
from segc.bundle.manifest import Manifest
from segc.bundle.report import LARGEST_JSON
from segc.errors import FileError
from segc.files.regular import read_regular
from segc.files.whole_folder import Kind, files_below, write_folder

NAME = "segc-package.json"
FORMAT = 1


@contextmanager
def write_package(directory: Path | str, purpose: str, manifest: Manifest, *, force: bool) -> Iterator[Path]:
    """Fill the folder that the block is given with a package of the bundle; it then takes the name `directory`.

    segc-package.json lists the files, and says what they are for. Raises FileError.
    """

    def complete(stage: Path) -> None:
        source = {"name": manifest.source.name, "target": manifest.target.name, "segc": manifest.segc}
        listed = {"format": FORMAT, "for": purpose, "bundle": source, "files": files_below(stage)}
        (stage / NAME).write_bytes(canonical(listed))

    with write_folder(directory, Kind("package", _foreign), complete, force=force) as stage:
        yield stage


def _foreign(folder: Path) -> str | None:
    """Why deleting `folder` might lose something that segc did not write, or None."""
    try:
        ours = {NAME, *json.loads(read_regular(folder / NAME, LARGEST_JSON))["files"]}
    except (FileError, OSError, ValueError, KeyError, TypeError, RecursionError):
        return f"it holds no {NAME} that segc can read, so it is not a package"
    foreign = [name for name in files_below(folder) if name not in ours]
    return f"besides a package it holds {', '.join(foreign[:3])}" if foreign else None
