"""Work in child processes: started, limited, ended and reported on in one way.

`Child` answers questions; `call` runs one function; `run_command` runs a program. Each has a time limit, can have a
limit of memory, and is ended with all that it started. What a child's end was is said by `exit_words` alone.
"""

from __future__ import annotations

import contextlib
import logging
import pickle
import signal
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, Any

from segc.isolation import client
from segc.isolation.child import Raised, Setup

_log = logging.getLogger(__name__)

_SHOWN = 5  # lines of what a child printed last


class ChildEnded(Exception):  # noqa: N818 - callers say what it means
    """A child ended, or was ended for being late, before it answered.

    how: in words, for "its process ...". late: it was ended after its time. code: its exit status, negative for a
    signal. lines: the last that it printed.
    """

    def __init__(self, how: str, late: bool, code: int, lines: Sequence[str]) -> None:
        super().__init__(how)
        self.how, self.late, self.code, self.lines = how, late, code, list(lines)


class ChildRaised(Exception):  # noqa: N818 - callers say what it means
    """The work in a child raised something that is no SegcError; type and message as text."""


def exit_words(code: int) -> str:
    """An exit status in words; negative: the number of a signal."""
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        name = signal.Signals(-code).name
        return f"{name}, as systems end processes when memory runs out" if name == "SIGKILL" else name
    return f"signal {-code}"


class Child:
    """A child process that does a task, see segc.isolation.child.

    argument: of the task's `prepare`. memory: bytes that it may allocate. own_group: end what it starts with it. A
    child without a group of its own ends with the group of this process. fresh: a new interpreter, not a fork.
    """

    def __init__(
        self, task: str, argument: str = "", *, memory: int | None = None, own_group: bool = True, fresh: bool = False
    ) -> None:
        self.said = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        self.process = client.start(task, argument, self.said, own_group=own_group, fresh=fresh)
        self._end = weakref.finalize(self, _end, self.process, self.said)
        self._setup: Setup | None = Setup.here(memory, own_group)

    def ask(self, question: object, seconds: float | None) -> Any:
        """Its answer. Raises SegcError (raised there), ChildRaised, or ChildEnded: it died or took over `seconds`."""
        late = threading.Event()

        def give_up() -> None:
            late.set()
            self.process.kill()

        timer = None if seconds is None else threading.Timer(seconds, give_up)
        if timer is not None:
            timer.daemon = True
            timer.start()
        try:
            if self._setup is not None:
                pickle.dump(self._setup, self.process.questions, protocol=5)
                self._setup = None
            pickle.dump(question, self.process.questions, protocol=5)
            self.process.questions.flush()
            answer = pickle.load(self.process.answers)
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise self._ended(seconds if late.is_set() else None) from error
        finally:
            if timer is not None:
                timer.cancel()
        if isinstance(answer, Raised):
            raise ChildRaised(answer.text)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def close(self) -> None:
        """End it."""
        self._end()

    def _ended(self, seconds: float | None) -> ChildEnded:
        code = self.process.wait()
        self.said.seek(0)
        lines = self.said.read().decode(errors="replace").strip().splitlines()[-_SHOWN:]
        how = _late(seconds) if seconds is not None else f"its process ended with {exit_words(code)}"
        _log.info("child %d ended before it answered: %s", self.process.number, how)
        return ChildEnded(how, seconds is not None, code, lines)


def call(
    function: Callable[..., Any], *arguments: object, seconds: float | None, memory: int | None = None,
    fresh: bool = False,
) -> Any:  # fmt: skip
    """function(*arguments) in a child process of its own.

    function: of a module that imports nothing it should not, for a server imports it too; arguments and result are
    pickled. seconds, memory (bytes): its limits. Raises as `Child.ask`.
    """
    child = Child("segc.isolation.calls", function.__module__, memory=memory, fresh=fresh)
    try:
        return child.ask((function, arguments), seconds)
    finally:
        child.close()


@dataclass(frozen=True)
class Done:
    """A command that ended. code: None when it was ended for being late. said: all that it printed."""

    code: int | None
    said: str

    @property
    def how(self) -> str:
        """Its end in words, for "its process ended with ..."."""
        return "the signal of its time limit" if self.code is None else exit_words(self.code)

    @property
    def last_lines(self) -> list[str]:
        """The last lines that say something."""
        return [line for line in self.said.splitlines() if line.strip()][-_SHOWN:]


def run_command(arguments: Sequence[str], seconds: float) -> Done:
    """Run a program without input, with the import path of this process, for at most `seconds`."""
    with tempfile.TemporaryFile() as said:
        process = client.popen(arguments, subprocess.DEVNULL, said, subprocess.STDOUT)
        code: int | None = None
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(seconds)
        finally:
            client.end(process)
            process.wait()
        said.seek(0)
        done = Done(code, said.read().decode(errors="replace"))
        _log.debug("%s ended with %s", " ".join(arguments), done.how)
        return done


def _late(seconds: float) -> str:
    return f"it gave no answer within {seconds:.0f} s"


def _end(process: client.Process, said: IO[bytes]) -> None:
    process.kill()
    code = process.wait()
    _log.debug("child %d ended: %s", process.number, exit_words(code))
    for pipe in (process.questions, process.answers, said):
        with contextlib.suppress(OSError):  # what was buffered for a child that is gone
            pipe.close()
