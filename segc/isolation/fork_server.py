"""A server process that forks the children which work on one task.

A fresh interpreter takes half a second to import what an engine needs, and compiling a hybrid bundle tries dozens of
engines. `python -m segc.isolation.fork_server FD TASK` therefore imports it once, and forks for each engine. The server
itself loads no runtime, starts no thread and computes nothing, so that forking is safe and no fork sees what another
did to its memory.

Each packet on the socket FD requests a fork. It holds the argument of the task's `prepare` and four files of the fork:
its questions, its answers, its output, and a channel on which the server reports. The server writes FORKED and the
process id to the channel, and later ENDED and the exit status.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import selectors
import signal
import socket
import struct
import sys

from segc.isolation.child import run_and_exit, serve

MESSAGE = struct.Struct("=Bq")
FORKED, ENDED = 0, 1
_LONGEST_ARGUMENT = 256  # bytes


class Server:
    """Forks on request. `run` returns when the other end of the socket is closed."""

    def __init__(self, requests: socket.socket, task: str) -> None:
        self._requests, self._task = requests, task
        self._channels: dict[int, int] = {}  # process id -> the channel of that fork
        self._wake, wake = os.pipe()
        for end in (self._wake, wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # with SIG_DFL, nothing would be written to `wake`
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the parent ends us

    def run(self) -> None:
        """Fork on request, and report the end of each fork."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._requests, selectors.EVENT_READ)
            selector.register(self._wake, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._requests:
                        argument, files, *_ = socket.recv_fds(self._requests, _LONGEST_ARGUMENT, 4)
                        if not files:
                            return
                        self._fork(argument.decode(), *files)
                    else:
                        os.read(self._wake, 4096)
                self._reap()

    def _fork(self, argument: str, questions: int, answers: int, output: int, channel: int) -> None:
        with contextlib.suppress(Exception):  # ignored here: the fork imports it again, and reports the error
            importlib.import_module(self._task).prepare(argument)
        process = os.fork()
        if process == 0:
            servers = (self._requests.fileno(), self._wake, channel, *self._channels.values())
            run_and_exit(lambda: _serve_as_child(self._task, questions, answers, output, servers))
        for file in (questions, answers, output):
            os.close(file)
        self._channels[process] = channel
        _report(channel, FORKED, process)

    def _reap(self) -> None:
        while self._channels:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None:
                return
            with contextlib.suppress(ProcessLookupError, PermissionError):  # not a group leader
                os.killpg(ended.si_pid, signal.SIGKILL)  # before the system may reuse its id
            _, status = os.waitpid(ended.si_pid, 0)
            channel = self._channels.pop(ended.si_pid)
            _report(channel, ENDED, os.waitstatus_to_exitcode(status))
            os.close(channel)


def _report(channel: int, what: int, value: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # the parent no longer waits
        os.write(channel, MESSAGE.pack(what, value))


def _serve_as_child(task: str, questions: int, answers: int, output: int, servers: tuple[int, ...]) -> None:
    for file in servers:
        os.close(file)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    for stream in (1, 2):
        os.dup2(output, stream)
    parent_ended = contextlib.suppress(BrokenPipeError)
    with parent_ended, os.fdopen(questions, "rb") as asked, os.fdopen(answers, "wb") as answered:
        serve(task, asked, answered)


def main(socket_number: int, task: str) -> None:
    """Serve until the socket is closed."""
    with socket.socket(fileno=socket_number) as requests:
        Server(requests, task).run()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
