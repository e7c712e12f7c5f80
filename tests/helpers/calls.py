"""The command line, called as a user does: in this process where nothing speaks against it, or in one of its own."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from segc.cli import main


@dataclass(frozen=True)
class Outcome:
    """Exit code and what was printed."""

    code: int
    out: str
    err: str


def segc(*words: object) -> Outcome:
    """Call the command line in this process; output goes to a pipe-like stream."""
    out, err = io.StringIO(), io.StringIO()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main([str(word) for word in words])
            except SystemExit as error:  # argparse
                code = error.code if isinstance(error.code, int) else 1
    finally:
        signal.signal(signal.SIGTERM, handler)
    return Outcome(code, out.getvalue(), err.getvalue())


def segc_process(*words: object, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Outcome:
    """Call `python -m segc` in a process of its own."""
    command = [sys.executable, "-m", "segc", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(env or {})}, cwd=cwd)
    return Outcome(done.returncode, done.stdout, done.stderr)


def heed_interrupts() -> None:
    """For `preexec_fn`: Ctrl-C ends the child, also in the background of a shell, which ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def python(code: str, *words: object, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Outcome:
    """Run a few lines in a fresh interpreter."""
    command = [sys.executable, "-c", code, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(env or {})}, cwd=cwd)
    return Outcome(done.returncode, done.stdout, done.stderr)


def refused(outcome: Outcome, code: int, *said: str) -> None:
    """The refusal has this exit code, says all this, says what to do, and shows no traceback."""
    assert outcome.code == code, outcome.err
    assert "Traceback" not in outcome.err and "bug in segc" not in outcome.err
    for text in said:
        assert text in outcome.err, outcome.err
    assert "\n  so  " in outcome.err, f"it does not say what to do: {outcome.err}"
    assert outcome.out == ""
