"""Start child processes, and end them: forks of a server that is ready to work, or fresh interpreters.

Forks are for Linux (5.3 or later) only: elsewhere system libraries do not survive them, or there are none.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import IO, Protocol

from segc.errors import Code, CompileError
from segc.isolation.fork_server import ENDED, MESSAGE

_log = logging.getLogger(__name__)


def _can_fork() -> bool:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return True


FORKS = _can_fork()


class Process(Protocol):
    """A child. It answers on `answers` what is written to `questions`; see segc.isolation.child.serve. number: its
    process id.
    """

    questions: IO[bytes]
    answers: IO[bytes]
    number: int

    def kill(self) -> None:
        """End it now, with the process group that it leads; nothing happens when it ended already."""

    def wait(self) -> int:
        """Its exit status, negative for a signal, once it has ended."""


def start(task: str, argument: str, said: IO[bytes], *, own_group: bool = True, fresh: bool = False) -> Process:
    """A process that does `task`, a module as segc.isolation.child says, and prints to `said`.

    argument: of the task's `prepare`. own_group: it will lead a process group. fresh: a new interpreter also where
    forks would do. Raises CompileError when no process can be started.
    """
    if fresh or not FORKS:
        return Fresh(task, said, own_group)
    for _ in range(2):  # the server may have been ended meanwhile
        try:
            child = _server(task).fork(argument, said)
        except (OSError, EOFError) as error:
            _log.warning("the server of %s cannot fork: %s", task, error or "it ended")
            continue
        _log.debug("child %d started: a fork for %s", child.number, task)
        return child
    raise CompileError(
        "no child process can be started", code=Code.ENGINE_PROCESS, so="see whether memory or processes run out"
    )


def popen(
    arguments: Sequence[str], stdin: int, stdout: IO[bytes] | int, stderr: IO[bytes] | int, own_group: bool = True
) -> subprocess.Popen[bytes]:
    """A process with the import path of this one, that leads a group as a rule."""
    return subprocess.Popen(
        arguments, env=environment(), stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=own_group
    )


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process made by `popen`, and its group; nothing happens when it ended already."""
    if process.poll() is None and hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):  # it may lead no group
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()


class Fresh:
    """A fresh interpreter."""

    def __init__(self, task: str, said: IO[bytes], own_group: bool) -> None:
        arguments = [sys.executable, "-m", "segc.isolation.child", task]
        self._process = popen(arguments, subprocess.PIPE, subprocess.PIPE, said, own_group)
        assert self._process.stdin is not None and self._process.stdout is not None
        self.questions: IO[bytes] = self._process.stdin
        self.answers: IO[bytes] = self._process.stdout
        self.number = self._process.pid
        _log.debug("child %d started: a fresh interpreter for %s", self.number, task)

    def kill(self) -> None:
        """See Process."""
        end(self._process)

    def wait(self) -> int:
        """See Process."""
        return self._process.wait()


class Fork:
    """A fork of a server. channel: pipe on which the server sends its process number, then its exit status."""

    def __init__(self, questions: int, answers: int, channel: int) -> None:
        self.questions: IO[bytes] = os.fdopen(questions, "wb")
        self.answers: IO[bytes] = os.fdopen(answers, "rb")
        self._channel, self._lock = os.fdopen(channel, "rb", buffering=0), threading.Lock()
        self._status = -signal.SIGKILL  # unless we hear of another
        _, self.number = MESSAGE.unpack(self._message())
        self._handle: int | None = None  # a number may be given to another process, a handle is not
        with contextlib.suppress(ProcessLookupError):  # it ended already
            self._handle = os.pidfd_open(self.number)

    def kill(self) -> None:
        """See Process."""
        with self._lock:
            if self._handle is not None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    if not select.select([self._handle], [], [], 0)[0] and os.getpgid(self.number) == self.number:
                        os.killpg(self.number, signal.SIGKILL)
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._handle, signal.SIGKILL)

    def wait(self) -> int:
        """See Process."""
        if self._handle is not None:
            select.select([self._handle], [], [])
        with self._lock:
            if not self._channel.closed:
                with contextlib.suppress(EOFError):  # the server was ended
                    what, self._status = MESSAGE.unpack(self._message())
                    assert what == ENDED
                self._channel.close()
            if self._handle is not None:
                os.close(self._handle)
                self._handle = None
        return self._status

    def _message(self) -> bytes:
        message = self._channel.read(MESSAGE.size)
        if not message:
            raise EOFError
        return message


class Server:
    """The server of this process for one task."""

    def __init__(self, task: str) -> None:
        self.owner = os.getpid()
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "segc.isolation.fork_server", str(other.fileno()), task],
                env={**environment(), "OPENBLAS_NUM_THREADS": "1"},
                pass_fds=[other.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            )  # fmt: skip
        atexit.register(self.close)

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def fork(self, argument: str, said: IO[bytes]) -> Fork:
        """Raises OSError or EOFError when the server is gone."""
        asked, questions = os.pipe()
        answers, answered = os.pipe()
        channel, server_end = os.pipe()
        try:
            socket.send_fds(self._socket, [argument.encode()], [asked, answered, said.fileno(), server_end])
        except OSError:
            for end in (questions, answers, channel):
                os.close(end)
            raise
        finally:
            for end in (asked, answered, server_end):
                os.close(end)
        return Fork(questions, answers, channel)

    def close(self) -> None:
        """End it. Its forks run on until their questions end."""
        self._socket.close()
        if self.owner == os.getpid():
            self._process.wait()


_servers: dict[str, Server] = {}
_lock = threading.Lock()


def _server(task: str) -> Server:
    """Started on first use, and again after it died or in a fork of ours."""
    with _lock:
        server = _servers.get(task)
        if server is None or server.owner != os.getpid() or not server.alive:
            server = _servers[task] = Server(task)
        return server


def environment() -> dict[str, str]:
    """This process's, with its import path."""
    path = [*sys.path, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(p for p in path if p))}
