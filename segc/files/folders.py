"""Publish a finished folder under its name, and repair what a killed process left unfinished."""

from __future__ import annotations

import contextlib
from pathlib import Path

from segc.files import claims, published
from segc.files.exchange import exchange
from segc.files.interrupts import held

ASIDE = ".old"  # suffix of the replaced folder for a moment, where names cannot be swapped


def publish(stage: Path, final: Path) -> None:
    """Rename the folder `stage` to `final` and delete the folder it replaces. Interrupts take effect afterwards.

    Where the system can swap two names, `final` exists at every moment. Raises OSError after undoing every step.
    """
    with held():
        aside = _rename(stage, final)
        try:
            claims.sync(final.parent)
        except OSError:
            _undo(stage, final, aside)
            raise
        published.add(final)
        for old in (stage, aside):
            claims.remove(old)


def restore(final: Path) -> bool:
    """Give the replaced folder its name back if a process was killed between two renames. Returns whether it did."""
    if final.exists():
        return False
    asides = claims.left_over(final, ASIDE)
    with contextlib.suppress(OSError):
        max(asides, key=lambda path: path.stat().st_mtime_ns, default=final).rename(final)
        return True
    return False


def clear(final: Path) -> None:
    """Restore `final` if needed, and delete what killed processes left beside it."""
    restore(final)
    for path in (*claims.left_over(final), *claims.left_over(final, ASIDE)):
        claims.remove(path)


def _rename(stage: Path, final: Path) -> Path:
    """Returns the path of the replaced folder: `stage` after a swap, and also if nothing was replaced."""
    if not final.exists():
        stage.rename(final)
        return stage
    if exchange(stage, final):
        return stage
    aside = stage.with_name(f"{stage.name}{ASIDE}")
    with claims.claimed(final):  # nobody restores it meanwhile
        final.rename(aside)
        try:
            stage.rename(final)
        except BaseException:
            aside.rename(final)
            raise
    return aside


def _undo(stage: Path, final: Path, aside: Path) -> None:
    """Undo `_rename`."""
    if stage.exists():  # the names were swapped
        exchange(stage, final)
        return
    final.rename(stage)
    if aside != stage:
        aside.rename(final)
