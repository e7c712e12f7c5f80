"""Printing: rich on a terminal, plain lines when piped."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from segc.cli import logs


def on_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout.isatty()


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
    """Print a table: with lines on a terminal, tab-separated when piped."""
    if not on_terminal():
        for row in (headers, *rows):
            print("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table

    drawn = Table(title=title or None, title_justify="left")
    for header in headers:
        drawn.add_column(header, overflow="fold")
    for row in rows:
        drawn.add_row(*(cell.replace("[", r"\[") for cell in row))
    Console().print(drawn)


@contextmanager
def steps(quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """Yields a function that announces the current step: as a spinner on a terminal, else as lines on stderr."""
    if quiet:
        yield lambda _: None
    elif sys.stderr.isatty() and not logs.are_shown():
        from rich.console import Console

        # the stream as it is now: libraries are silenced by redirecting sys.stderr while they run
        with Console(file=sys.stderr).status("starting") as status:
            yield lambda text: status.update(text)
    else:
        yield lambda text: print(f"segc: {text}", file=sys.stderr, flush=True)
