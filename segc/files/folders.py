"""A finished folder takes its name, and what a killed process left half done is put right."""

from __future__ import annotations

import contextlib
from pathlib import Path

from segc.files import claims, published
from segc.files.exchange import exchange
from segc.files.interrupts import held

ASIDE = ".old"  # ends the name that the replaced folder has for a moment where names cannot be exchanged


def publish(stage: Path, final: Path) -> None:
    """Call the folder `stage` `final`, and delete what was called so. Interrupts wait until that is done.

    Where the system can exchange two names, a folder is called `final` at any moment. Raises OSError; then all is as it
    was before.
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
    """Call the replaced folder `final` again, where a process was killed between two renames; whether it was so."""
    if final.exists():
        return False
    asides = claims.left_over(final, ASIDE)
    with contextlib.suppress(OSError):
        max(asides, key=lambda path: path.stat().st_mtime_ns, default=final).rename(final)
        return True
    return False


def clear(final: Path) -> None:
    """Restore, and delete what killed processes left beside `final`."""
    restore(final)
    for path in (*claims.left_over(final), *claims.left_over(final, ASIDE)):
        claims.remove(path)


def _rename(stage: Path, final: Path) -> Path:
    """Returns what the replaced folder is called now: `stage` after an exchange, or where there was none."""
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
    """Take back what `_rename` did."""
    if stage.exists():  # it was exchanged
        exchange(stage, final)
        return
    final.rename(stage)
    if aside != stage:
        aside.rename(final)
