"""Processes for the jobs of the matrix: one that has imported the heavy packages, and a fork of it for every job.

`python -m segc.support_matrix.worker` reads one request a line, `{"asked", "answer", "said", "timeout"}`, and answers
each with a line `{"code"}`, null for a time-out. It starts no thread and computes nothing itself, so that forking it is
safe; a job that crashes or hangs takes its own process down and no other.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

from segc.isolation.fork import work_and_exit

_POLL = 0.05  # seconds
_own = threading.local()


class Worker:
    """One such process, and the pipe to it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "segc.support_matrix.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def alive(self) -> bool:
        """Whether it can take another job."""
        return self._process.poll() is None

    def run(self, asked: Path, answer: Path, said: Path, timeout: float) -> int | None:
        """Exit code of the job in `asked`, None when it took longer than `timeout` seconds.

        answer, said: files for its cells and for what it prints.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        request = {"asked": str(asked), "answer": str(answer), "said": str(said), "timeout": timeout}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            return self._process.wait()
        code: int | None = json.loads(line)["code"]
        return code

    def __del__(self) -> None:
        self._process.terminate()
        self._process.communicate()  # closes the pipes, and waits


def worker_of_this_thread() -> Worker:
    """Started on first use, and again after it died."""
    worker: Worker | None = getattr(_own, "worker", None)
    if worker is None or not worker.alive:
        worker = _own.worker = Worker()
    return worker


def _serve() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            work_and_exit(partial(_job, request))
        try:
            code = _wait(child, time.monotonic() + request["timeout"])
        except BaseException:  # an interrupt ends the job too
            _kill(child)
            raise
        sys.stdout.write(json.dumps({"code": code}) + "\n")
        sys.stdout.flush()


def _job(request: dict[str, str]) -> None:
    """In the fork."""
    from segc.support_matrix.job import main

    os.setsid()  # what it starts in turn can be ended with it
    out = os.open(request["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.close(0)
    main(Path(request["asked"]), Path(request["answer"]))


def _wait(child: int, deadline: float) -> int | None:
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            _kill(child)
            return None
        time.sleep(_POLL)


def _kill(child: int) -> None:
    """The job and what it started."""
    for end in (os.killpg, os.kill):  # it may not have its session yet
        with contextlib.suppress(ProcessLookupError):
            end(child, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(child, 0)


def _import_heavy() -> None:
    """What every job needs; where it is missing the job says so itself."""
    with contextlib.suppress(ImportError):
        import onnxruntime
        import onnxscript
        import onnxsim
        import torch.onnx._internal.exporter._core  # noqa: F401

        from segc.frontend.mmseg_env import import_mmseg

        del onnxruntime, onnxscript, onnxsim
        import_mmseg()
        import mmseg.models  # noqa: F401
    import segc.support_matrix.job  # noqa: F401


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    _import_heavy()
    _serve()
