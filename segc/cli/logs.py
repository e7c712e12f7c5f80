"""Log lines on stderr, as -v and the environment variable SEGC_LOG ask for them."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from segc.errors import Code, UsageError
from segc.suggestions import did_you_mean

VARIABLE = "SEGC_LOG"
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_SEGC = logging.getLogger("segc")
_HELP = "log to stderr what segc does; -vv: each pass and child process too (or SEGC_LOG=LEVEL)"


def add_verbose(root: argparse.ArgumentParser, commands: Iterable[argparse.ArgumentParser]) -> None:
    """Let -v stand before the command and after it. Two names: a command's default would replace what came before."""
    root.add_argument("-v", "--verbose", action="count", default=0, dest="verbose_before", help=_HELP)
    for command in commands:
        command.add_argument("-v", "--verbose", action="count", default=0, help=_HELP)


def level(args: argparse.Namespace) -> int | None:
    """What to log: -v says info, -vv debug, without them SEGC_LOG decides; None for nothing. Raises UsageError."""
    if count := args.verbose_before + args.verbose:
        return logging.INFO if count == 1 else logging.DEBUG
    name = os.environ.get(VARIABLE, "").strip().lower()
    if name and name not in LEVELS:
        raise UsageError(
            f"{VARIABLE} is '{name}'", code=Code.UNKNOWN_CHOICE, because=f"it is one of {', '.join(LEVELS)}",
            so=did_you_mean(name, LEVELS) or f"unset {VARIABLE}, or set it to one of them",
        )  # fmt: skip
    return LEVELS.get(name)


@contextmanager
def shown(level: int | None) -> Iterator[None]:
    """Print log lines of this level and above on stderr, for as long as the block runs; None prints nothing."""
    if level is None:
        yield
        return
    handler, before = logging.StreamHandler(sys.stderr), _SEGC.level
    handler.setFormatter(logging.Formatter("%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))
    _SEGC.addHandler(handler)
    _SEGC.setLevel(level)
    try:
        yield
    finally:
        _SEGC.removeHandler(handler)
        _SEGC.setLevel(before)


def are_shown() -> bool:
    """Whether anything more than warnings is logged: a spinner or bar would tear the lines."""
    return _SEGC.isEnabledFor(logging.INFO)
