"""Start and end child processes: forks of a server that has imported what they need, or fresh interpreters.

Forks need Linux 5.3 or later. Other systems have no forks, or their system libraries do not work after one.
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


CAN_FORK = _can_fork()


class Process(Protocol):
    """A child process that reads `questions` and writes `answers`, see segc.isolation.child.serve.

    number: its process id.
    """

    questions: IO[bytes]
    answers: IO[bytes]
    number: int

    def kill(self) -> None:
        """Kill the process and the group that it leads. Does nothing if it has ended."""

    def wait(self) -> int:
        """Wait for the end. Returns the exit status; the negative number of a signal."""


def start(task: str, argument: str, output: IO[bytes], *, own_group: bool = True, fresh: bool = False) -> Process:
    """Start a process that works on `task`, see segc.isolation.child, and prints to the file `output`.

    argument: passed to the task's `prepare`. own_group: whether the process will lead a process group. fresh: start a
    new interpreter, also where forks are possible. Raises CompileError if no process can be started.
    """
    if fresh or not CAN_FORK:
        return FreshProcess(task, output, own_group)
    for _ in range(2):  # the server may have died
        server = _server(task)
        try:
            child = server.fork(argument, output)
        except (OSError, EOFError) as error:
            _log.warning("the server of %s cannot fork: %s", task, error or "it ended")
            _forget(task, server)  # a killed process can seem alive for some time after its socket has closed
            continue
        _log.debug("child %d started: a fork for %s", child.number, task)
        return child
    raise CompileError(
        "no child process can be started",
        code=Code.ENGINE_PROCESS,
        so="check whether the machine runs out of memory, or the user out of processes",
    )


def popen(
    arguments: Sequence[str], stdin: int, stdout: IO[bytes] | int, stderr: IO[bytes] | int, own_group: bool = True
) -> subprocess.Popen[bytes]:
    """Start a program with the import path of this process. own_group: whether it leads a process group."""
    return subprocess.Popen(
        arguments, env=environment(), stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=own_group
    )


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process from `popen`, and its group. Does nothing if it has ended."""
    if process.poll() is None and hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):  # not a group leader
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()


class FreshProcess:
    """A child that is a fresh interpreter."""

    def __init__(self, task: str, output: IO[bytes], own_group: bool) -> None:
        arguments = [sys.executable, "-m", "segc.isolation.child", task]
        self._process = popen(arguments, subprocess.PIPE, subprocess.PIPE, output, own_group)
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


class ForkedProcess:
    """A child that is a fork of a server. channel: pipe on which the server sends its process id, then its status."""

    def __init__(self, questions: int, answers: int, channel: int) -> None:
        self.questions: IO[bytes] = os.fdopen(questions, "wb")
        self.answers: IO[bytes] = os.fdopen(answers, "rb")
        self._channel, self._lock = os.fdopen(channel, "rb", buffering=0), threading.Lock()
        self._status = -signal.SIGKILL  # if the server dies before it reports the status
        _, self.number = MESSAGE.unpack(self._message())
        self._handle: int | None = None  # unlike the number, the handle cannot refer to another process later
        with contextlib.suppress(ProcessLookupError):  # it has ended
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
                with contextlib.suppress(EOFError):  # the server died
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
    """This process's connection to its fork server for one task."""

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
        """Whether the server runs."""
        return self._process.poll() is None

    def fork(self, argument: str, output: IO[bytes]) -> ForkedProcess:
        """Ask the server for a child. Raises OSError or EOFError if the server has ended."""
        asked, questions = os.pipe()
        answers, answered = os.pipe()
        channel, server_end = os.pipe()
        try:
            socket.send_fds(self._socket, [argument.encode()], [asked, answered, output.fileno(), server_end])
        except OSError:
            for end in (questions, answers, channel):
                os.close(end)
            raise
        finally:
            for end in (asked, answered, server_end):
                os.close(end)
        return ForkedProcess(questions, answers, channel)

    def close(self) -> None:
        """End the server. Its forks continue until their questions end."""
        self._socket.close()
        if self.owner == os.getpid():
            self._process.wait()


_servers: dict[str, Server] = {}
_lock = threading.Lock()


def _server(task: str) -> Server:
    """The server for a task; started on first use, after it died, and in a fork of this process."""
    with _lock:
        server = _servers.get(task)
        if server is None or server.owner != os.getpid() or not server.alive:
            server = _servers[task] = Server(task)
        return server


def _forget(task: str, server: Server) -> None:
    """Let the next child of a task come from a new server. Other threads may have started one already."""
    with _lock:
        if _servers.get(task) is server:
            del _servers[task]


def environment() -> dict[str, str]:
    """The environment of this process, with its import path as PYTHONPATH."""
    path = [*sys.path, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(p for p in path if p))}
