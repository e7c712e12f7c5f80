"""The child's side: answer the questions of the process that started this one.

A task is a module with a function `handler()`, which returns the function that answers questions. A task that forks of
a server work on also has `prepare(argument)`, which imports, once in the server, the modules that every fork needs. A
child reads its `Setup` before the first question.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn

from segc.errors import SegcError


@dataclass(frozen=True)
class Setup:
    """What a child applies before it answers: its parent's environment, import path and folder, and limits.

    folder: the working directory, to which paths are relative; None if the parent's is gone. memory: bytes that the
    child may allocate, None for no limit; effective on systems with resource limits. own_group: whether the child leads
    a process group, which is killed together with it.
    """

    environment: Mapping[str, str]
    path: tuple[str, ...]
    memory: int | None = None
    own_group: bool = True
    folder: str | None = None

    @staticmethod
    def here(memory: int | None = None, own_group: bool = True) -> Setup:
        """The environment, import path and working directory of this process."""
        folder = None
        with contextlib.suppress(OSError):  # somebody removed it
            folder = str(Path.cwd())
        return Setup(dict(os.environ), tuple(sys.path), memory, own_group, folder)

    def apply(self) -> None:
        """Apply the setup to this process."""
        os.environ.clear()
        os.environ.update(self.environment)
        sys.path[:] = self.path
        if self.folder is not None:
            with contextlib.suppress(OSError):  # removed meanwhile
                os.chdir(self.folder)
        if self.own_group and hasattr(os, "setsid"):
            with contextlib.suppress(PermissionError):  # a fresh interpreter already leads a group
                os.setsid()
        if self.memory is not None:
            with contextlib.suppress(ImportError):  # Windows
                import resource

                resource.setrlimit(resource.RLIMIT_DATA, (self.memory, self.memory))


@dataclass(frozen=True)
class ForeignError:
    """The answer if the handler raised an exception of a foreign package. text: its type and message."""

    text: str


def serve(task: str, questions: IO[bytes], answers: IO[bytes]) -> None:
    """Answer questions until they end: with what the handler of `task` returns, or the SegcError that it raises."""
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
        except Exception as error:  # runtimes and user code have exception types that the parent may lack
            answer = ForeignError(f"{type(error).__name__}: {error}")
        pickle.dump(answer, answers, protocol=5)
        answers.flush()


def run_and_exit(work: Callable[[], None]) -> NoReturn:
    """Run a function in a forked child, then _exit: with status 0, or 1 and a traceback on stderr after an exception.

    The child never returns to the code of the server that it is a copy of.
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
    """Serve on stdin and stdout of this process. What the task prints goes to stderr."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    serve(task, sys.stdin.buffer, answers)


if __name__ == "__main__":
    from segc.isolation import child  # pickles of Setup name the module like this

    child.main(sys.argv[1])
