"""Start the process of an isolated engine, and end it: a fork of segc.isolation.fork_server, or a fresh interpreter.

Forks are for Linux (5.3 or later) only: elsewhere system libraries do not survive them, or there are none.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from typing import IO, Protocol

from segc.errors import CompileError
from segc.isolation.fork_server import ENDED, FATE

_SERVER = [sys.executable, "-m", "segc.isolation.fork_server"]


def _can_fork() -> bool:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return True


FORKS = _can_fork()


class EngineProcess(Protocol):
    """The child. What is written to `questions` it answers on `answers`; see isolation_server.serve."""

    questions: IO[bytes]
    answers: IO[bytes]

    def kill(self) -> None:
        """End it now; nothing happens when it ended already."""

    def wait(self) -> int:
        """Its exit status, negative for a signal, once it has ended."""


def start(target: str, said: IO[bytes]) -> EngineProcess:
    """A process to load an engine of `target` in, that prints to `said`. Raises CompileError when there is none."""
    if not FORKS:
        return Fresh(said)
    for _ in range(2):  # the server may have been ended meanwhile
        with contextlib.suppress(OSError, EOFError):
            return _server().fork(target, said)
    raise CompileError("no process can be started for the engine", so="see whether memory or processes run out")


class Fresh:
    """A fresh interpreter."""

    def __init__(self, said: IO[bytes]) -> None:
        self._process = subprocess.Popen(
            _SERVER, env=_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self.questions, self.answers = self._process.stdin, self._process.stdout
        self.kill, self.wait = self._process.kill, self._process.wait


class Fork:
    """A fork of the server. fate: where the server writes its number, then its exit status."""

    def __init__(self, questions: int, answers: int, fate: int) -> None:
        self.questions: IO[bytes] = os.fdopen(questions, "wb")
        self.answers: IO[bytes] = os.fdopen(answers, "rb")
        self._fate, self._lock = os.fdopen(fate, "rb", buffering=0), threading.Lock()
        self._status = -signal.SIGKILL  # unless we hear of another
        _, self.number = FATE.unpack(self._told())
        self._handle: int | None = None  # a number may be given to another process, a handle is not
        with contextlib.suppress(ProcessLookupError):  # it ended already
            self._handle = os.pidfd_open(self.number)

    def kill(self) -> None:
        """See EngineProcess."""
        with self._lock:
            if self._handle is not None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._handle, signal.SIGKILL)

    def wait(self) -> int:
        """See EngineProcess."""
        if self._handle is not None:
            select.select([self._handle], [], [])
        with self._lock:
            if not self._fate.closed:
                with contextlib.suppress(EOFError):  # the server was ended
                    what, self._status = FATE.unpack(self._told())
                    assert what == ENDED
                self._fate.close()
            if self._handle is not None:
                os.close(self._handle)
                self._handle = None
        return self._status

    def _told(self) -> bytes:
        told = self._fate.read(FATE.size)
        if not told:
            raise EOFError
        return told


class Server:
    """The server of this process."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            self._process = subprocess.Popen(
                [*_SERVER, str(other.fileno())], env={**_environment(), "OPENBLAS_NUM_THREADS": "1"},
                pass_fds=[other.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            )  # fmt: skip
        atexit.register(self.close)

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def fork(self, target: str, said: IO[bytes]) -> Fork:
        """Raises OSError or EOFError when the server is gone."""
        asked, questions = os.pipe()
        answers, answered = os.pipe()
        fate, told = os.pipe()
        try:
            socket.send_fds(self._socket, [target.encode()], [asked, answered, said.fileno(), told])
        except OSError:
            for end in (questions, answers, fate):
                os.close(end)
            raise
        finally:
            for end in (asked, answered, told):
                os.close(end)
        return Fork(questions, answers, fate)

    def close(self) -> None:
        """End it. Its forks run on until their questions end."""
        self._socket.close()
        if self.owner == os.getpid():
            self._process.wait()


_servers: list[Server] = []
_lock = threading.Lock()


def _server() -> Server:
    """Started on first use, and again after it died or in a fork of ours."""
    with _lock:
        if _servers and (_servers[0].owner != os.getpid() or not _servers[0].alive):
            _servers.clear()
        if not _servers:
            _servers.append(Server())
        return _servers[0]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
