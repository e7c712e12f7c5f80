"""What this command has published so far: what an interrupt must not deny."""

from __future__ import annotations

from pathlib import Path

_paths: list[Path] = []


def begin() -> None:
    """A new command: nothing yet."""
    _paths.clear()


def add(*paths: Path) -> None:
    """These are in place. Call it under `interrupts.held`, together with what puts them there."""
    _paths.extend(paths)


def summary() -> str:
    """In words, for the message of an interrupt."""
    if not _paths:
        return "nothing was published"
    if len(_paths) == 1:
        return f"{_paths[0]} was already published"
    return f"{len(_paths)} files were already published, the last {_paths[-1]}"
