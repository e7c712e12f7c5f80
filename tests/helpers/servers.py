"""`segc serve` as a process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def served(*words: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process, at a free port whatever `words` say, and its address."""
    call = [sys.executable, "-m", "segc", "serve", *map(str, words), "--port", "0"]
    process = subprocess.Popen(call, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ})
    try:
        yield process, address_of(process)
    finally:
        process.kill()
        process.communicate()


def address_of(process: subprocess.Popen[str]) -> str:
    """The address that a starting server prints on its standard error."""
    assert process.stderr is not None
    said = ""
    while not (found := re.search(r"http://\S+?(?=;)", said)):
        line = process.stderr.readline()
        assert line, said
        said += line
    return found.group()
