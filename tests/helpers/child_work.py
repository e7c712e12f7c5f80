"""What tests run in child processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from segc.errors import ShapeError

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


def add(a: int, b: int) -> tuple[int, int]:
    return a + b, os.getpid()


def refuse() -> None:
    raise ShapeError("not today")


def fail() -> None:
    raise KeyError("who")


def crash() -> None:
    sys.stderr.write("about to crash\n")
    sys.stderr.flush()
    os.kill(os.getpid(), signal.SIGSEGV)


def allocate(count: int) -> int:
    return len(bytearray(count))


def start_and_wait(note: str) -> None:
    Path(note).write_text(str(subprocess.Popen(SLEEP).pid))
    time.sleep(600)


def start_and_exit(note: str) -> None:
    Path(note).write_text(str(subprocess.Popen(SLEEP).pid))
    os._exit(3)
