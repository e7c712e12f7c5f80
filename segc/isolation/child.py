"""Inside a child process: answer the questions of whoever started it.

A task is a module with `handler()`, which gives the function that answers, and, where a server forks for it,
`prepare(argument)`, which imports what all its forks would import. The first thing a child reads is its `Setup`.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, NoReturn

from segc.errors import SegcError


@dataclass(frozen=True)
class Setup:
    """What a child takes over before it answers: the environment and import path of whoever started it, and limits.

    memory: bytes that it may allocate, None for any number; it holds where the system has resource limits.
    own_group: lead a process group, which is ended with it.
    """

    environment: Mapping[str, str]
    path: tuple[str, ...]
    memory: int | None = None
    own_group: bool = True

    @staticmethod
    def here(memory: int | None = None, own_group: bool = True) -> Setup:
        """The environment and path of this process."""
        return Setup(dict(os.environ), tuple(sys.path), memory, own_group)

    def apply(self) -> None:
        """Take it over."""
        os.environ.clear()
        os.environ.update(self.environment)
        sys.path[:] = self.path
        if self.own_group and hasattr(os, "setsid"):
            with contextlib.suppress(PermissionError):  # a fresh interpreter leads one already
                os.setsid()
        if self.memory is not None:
            with contextlib.suppress(ImportError):  # Windows
                import resource

                resource.setrlimit(resource.RLIMIT_DATA, (self.memory, self.memory))


@dataclass(frozen=True)
class Raised:
    """The answer where the handler raised what may not travel. text: type and message."""

    text: str


def serve(task: str, questions: IO[bytes], answers: IO[bytes]) -> None:
    """Answer each question with what the handler of `task` returns, or the SegcError it raises, until they end."""
    handler: Callable[[object], object] | None = None
    while True:
        try:
            question = pickle.load(questions)
        except EOFError:
            return
        if isinstance(question, Setup):
            question.apply()
            continue
        answer: object
        try:
            handler = importlib.import_module(task).handler() if handler is None else handler
            answer = handler(question)
        except SegcError as error:
            answer = error
        except Exception as error:  # the work is a runtime's or a user's, which have exceptions of their own
            answer = Raised(f"{type(error).__name__}: {error}")
        pickle.dump(answer, answers, protocol=5)
        answers.flush()


def work_and_exit(work: Callable[[], None]) -> NoReturn:
    """Do it in a fork, print what it raises on stderr, and _exit: status 0, or 1 after an exception.

    The fork never returns to the code of the process that it is a copy of.
    """
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main(task: str) -> None:
    """Serve in this process, on stdin and stdout; what the work prints goes to stderr."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    serve(task, sys.stdin.buffer, answers)


if __name__ == "__main__":
    from segc.isolation import child  # under the name that pickles of Setup have

    child.main(sys.argv[1])
