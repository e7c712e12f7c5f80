"""The process that engines run in: `serve`, and a server whose forks do so.

A fresh interpreter needs half a second to import what a target needs, and a hybrid bundle tries dozens of engines. So
`python -m segc.isolation.fork_server FD` imports it once and forks for each engine. It loads no runtime, starts no
thread and computes nothing itself, so that forking it is safe and no fork sees what another did to its memory.

One packet on the socket FD asks for a fork: the target's name, with four files of the fork: questions, answers, what
it prints, and its fate. To the last the server writes FORKED with the process number, later ENDED with the exit code.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import selectors
import signal
import socket
import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from segc.isolation.fork import work_and_exit

FATE = struct.Struct("=Bq")
FORKED, ENDED = 0, 1
_LONGEST_NAME = 256  # bytes


@dataclass(frozen=True)
class Engine:
    """The first question: what to load, and the environment to load it in."""

    target: str
    directory: Path
    options: Mapping[str, Any]
    threads: int
    environment: Mapping[str, str]
    path: tuple[str, ...]

    def load(self) -> Any:
        """The target's own session."""
        os.environ.clear()
        os.environ.update(self.environment)
        sys.path[:] = self.path
        from segc import targets

        return targets.runtime(self.target).load(self.directory, dict(self.options), self.threads)


def serve(questions: IO[bytes], answers: IO[bytes]) -> None:
    """Load what the first question names, then run each array, or each mapping of arrays by name."""
    from segc.errors import CompileError, SegcError

    session: Any = None
    answer: object
    while True:
        try:
            question = pickle.load(questions)
        except EOFError:
            return
        try:
            if isinstance(question, Engine):
                session, answer = question.load(), None
            elif isinstance(question, dict):
                answer = dict(session.run_named(question))
            else:
                answer = session.run(question)
        except SegcError as error:
            answer = error
        except Exception as error:  # each runtime has exceptions of its own, which may not travel
            answer = CompileError("the runtime fails", because=f"{type(error).__name__}: {error}")
        pickle.dump(answer, answers, protocol=5)
        answers.flush()


class Server:
    """Forks on request; `run` ends when the other end of the socket is closed."""

    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self._fates: dict[int, int] = {}  # process -> file to write its end to
        self._wake, wake = os.pipe()
        for end in (self._wake, wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # with SIG_DFL nothing is written to `wake`
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of a terminal's processes; we end with ours

    def run(self) -> None:
        """Answer requests, and tell fates."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._requests, selectors.EVENT_READ)
            selector.register(self._wake, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._requests:
                        name, files, *_ = socket.recv_fds(self._requests, _LONGEST_NAME, 4)
                        if not files:
                            return
                        self._fork(name.decode(), *files)
                    else:
                        os.read(self._wake, 4096)
                self._reap()

    def _fork(self, target: str, questions: int, answers: int, said: int, fate: int) -> None:
        _prepare(target)
        process = os.fork()
        if process == 0:
            servers = (self._requests.fileno(), self._wake, fate, *self._fates.values())
            work_and_exit(lambda: _be_child(questions, answers, said, servers))
        for file in (questions, answers, said):
            os.close(file)
        self._fates[process] = fate
        _tell(fate, FORKED, process)

    def _reap(self) -> None:
        while self._fates:
            process, status = os.waitpid(-1, os.WNOHANG)
            if process == 0:
                return
            fate = self._fates.pop(process)
            _tell(fate, ENDED, os.waitstatus_to_exitcode(status))
            os.close(fate)


def _prepare(target: str) -> None:
    """Import what forks for this target would each import; an error in it is the fork's to tell."""
    with contextlib.suppress(Exception):
        from segc import targets

        targets.runtime(target)


def _tell(fate: int, what: int, value: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody waits any more
        os.write(fate, FATE.pack(what, value))


def _be_child(questions: int, answers: int, said: int, servers: tuple[int, ...]) -> None:
    for file in servers:
        os.close(file)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    for stream in (1, 2):
        os.dup2(said, stream)
    whoever_asked_is_gone = contextlib.suppress(BrokenPipeError)
    with whoever_asked_is_gone, os.fdopen(questions, "rb") as asked, os.fdopen(answers, "wb") as answered:
        serve(asked, answered)


def main() -> None:
    """With the socket's number: the server. Without: run one engine in this very process, on stdin and stdout."""
    if sys.argv[1:]:
        with socket.socket(fileno=int(sys.argv[1])) as requests:
            Server(requests).run()
        return
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # runtimes print
    serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    from segc.isolation import fork_server  # under the name that pickles of Engine have

    fork_server.main()
