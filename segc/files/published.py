"""The files that the running command has published, for the message of an interrupt."""

from __future__ import annotations

from pathlib import Path

_paths: list[Path] = []


def begin() -> None:
    """Start a new command: nothing is published yet."""
    _paths.clear()


def add(*paths: Path) -> None:
    """Record published paths. Call it under `interrupts.held`, together with the rename that publishes them."""
    _paths.extend(paths)


def summary() -> str:
    """One phrase for the message of an interrupt."""
    if not _paths:
        return "nothing was published"
    if len(_paths) == 1:
        return f"{_paths[0]} was already published"
    return f"{len(_paths)} files were already published, the last {_paths[-1]}"
