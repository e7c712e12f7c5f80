"""Supervise child processes: start them, limit their time and memory, end them, and describe how they ended.

`Child` answers questions, `call` runs one function, `run_command` runs a program. Each child is killed together with
all processes that it started. `describe_exit` puts every exit status into words.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import re
import signal
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, Any

from segc.isolation import client
from segc.isolation.child import ForeignError, Setup

_log = logging.getLogger(__name__)

_SHOWN = 5  # lines of a child's output in messages
_READ = 1 << 16  # bytes of output that are read for them
_COLOR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")  # an escape sequence of terminals


class ChildEnded(Exception):  # noqa: N818 - callers decide whether it is an error
    """A child ended before it answered, by itself or because it exceeded its time limit.

    reason: a sentence. timed_out: whether it exceeded the limit. code: its exit status, that of a signal negative.
    lines: the last lines of its output.
    """

    def __init__(self, reason: str, timed_out: bool, code: int, lines: Sequence[str]) -> None:
        super().__init__(reason)
        self.reason, self.timed_out, self.code, self.lines = reason, timed_out, code, list(lines)


class ChildRaised(Exception):  # noqa: N818 - callers decide whether it is an error
    """The task in a child raised an exception other than SegcError. The text is its type and message."""


def describe_exit(code: int) -> str:
    """An exit status in words. A negative status is that of a signal."""
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        name = signal.Signals(-code).name
        return f"{name}, possibly because the system ran out of memory" if name == "SIGKILL" else name
    return f"signal {-code}"


class Child:
    """A child process that works on a task, see segc.isolation.child.

    argument: passed to the task's `prepare`. memory: bytes that the child may allocate. own_group: whether it leads a
    process group, so that processes which it starts end with it; without one, it ends with the group of this process.
    fresh: a new interpreter instead of a fork.
    """

    def __init__(
        self, task: str, argument: str = "", *, memory: int | None = None, own_group: bool = True, fresh: bool = False
    ) -> None:
        self.output = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        self.process = client.start(task, argument, self.output, own_group=own_group, fresh=fresh)
        self._end = weakref.finalize(self, _end, self.process, self.output)
        self._setup: Setup | None = Setup.here(memory, own_group)
        self._asked = 0  # bytes of output before the last question

    def ask(self, question: object, seconds: float | None) -> Any:
        """The child's answer. Raises the SegcError that the child raised, ChildRaised, or ChildEnded.

        seconds: time limit, after which the child is killed; None for no limit.
        """
        timed_out = threading.Event()

        def give_up() -> None:
            timed_out.set()
            self.process.kill()

        timer = None if seconds is None else threading.Timer(seconds, give_up)
        if timer is not None:
            timer.daemon = True
            timer.start()
        try:
            if self._setup is not None:
                pickle.dump(self._setup, self.process.questions, protocol=5)
                self._setup = None
            self._asked = os.fstat(self.output.fileno()).st_size
            pickle.dump(question, self.process.questions, protocol=5)
            self.process.questions.flush()
            answer = pickle.load(self.process.answers)
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise self._ended(seconds if timed_out.is_set() else None) from error
        finally:
            if timer is not None:
                timer.cancel()
        if isinstance(answer, ForeignError):
            raise ChildRaised(answer.text)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def printed(self) -> list[str]:
        """The first lines that the child printed since the last question, without colors."""
        if not hasattr(os, "pread"):  # Windows
            return []
        size = os.fstat(self.output.fileno()).st_size - self._asked
        # pread: the child writes at the position that a seek would move
        return _plain(os.pread(self.output.fileno(), min(size, _READ), self._asked))[:_SHOWN]

    def close(self) -> None:
        """End the child."""
        self._end()

    def _ended(self, seconds: float | None) -> ChildEnded:
        code = self.process.wait()
        self.output.seek(0)
        lines = _plain(self.output.read())[-_SHOWN:]
        reason = _timeout_text(seconds) if seconds is not None else f"its process ended with {describe_exit(code)}"
        _log.info("child %d ended before it answered: %s", self.process.number, reason)
        return ChildEnded(reason, seconds is not None, code, lines)


def call(
    function: Callable[..., Any], *arguments: object, seconds: float | None, memory: int | None = None,
    fresh: bool = False,
) -> Any:  # fmt: skip
    """Call function(*arguments) in a child process of its own. Raises as `Child.ask`.

    Arguments and result are pickled. seconds, memory (bytes): limits. The fork server imports the function's module: it
    must not load a runtime or start threads on import.
    """
    child = Child("segc.isolation.calls", function.__module__, memory=memory, fresh=fresh)
    try:
        return child.ask((function, arguments), seconds)
    finally:
        child.close()


@dataclass(frozen=True)
class Done:
    """A command that has ended. code: None if it exceeded its time limit. output: what it printed, without colors."""

    code: int | None
    output: str

    @property
    def reason(self) -> str:
        """How it ended, to follow "its process ended with"."""
        return "SIGKILL after its time limit" if self.code is None else describe_exit(self.code)

    @property
    def last_lines(self) -> list[str]:
        """The last lines of the output that are not empty."""
        return [line for line in self.output.splitlines() if line.strip()][-_SHOWN:]


def run_command(arguments: Sequence[str], seconds: float) -> Done:
    """Run a program for at most `seconds`, with the import path of this process and without input."""
    with tempfile.TemporaryFile() as output:
        process = client.popen(arguments, subprocess.DEVNULL, output, subprocess.STDOUT)
        code: int | None = None
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(seconds)
        finally:
            client.end(process)
            process.wait()
        output.seek(0)
        done = Done(code, _COLOR.sub("", output.read().decode(errors="replace")))
        _log.debug("%s ended with %s", " ".join(arguments), done.reason)
        return done


def _plain(output: bytes) -> list[str]:
    """The lines of an output that are not empty, without colors."""
    text = _COLOR.sub("", output.decode(errors="replace"))
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def _timeout_text(seconds: float) -> str:
    return f"it did not answer within {seconds:.0f} s"


def _end(process: client.Process, output: IO[bytes]) -> None:
    process.kill()
    code = process.wait()
    _log.debug("child %d ended: %s", process.number, describe_exit(code))
    for pipe in (process.questions, process.answers, output):
        with contextlib.suppress(OSError):  # there may be buffered data for a child that has ended
            pipe.close()
