"""Run an engine in a process of its own: what a runtime does to its process is then an error, not the end of ours.

Some runtimes check nothing: an engine that they misread reads and writes memory that is not theirs. `isolated` loads a
target's engine in a child process and passes arrays to and fro over pipes. A child that dies or does not answer in time
is a CompileError that says so; errors that the target raises in the child are raised here.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from segc.errors import CompileError, SegcError

LIMIT = 900.0  # seconds for one answer
_SHOWN = 5  # lines of what the child printed


class IsolatedSession:
    """A session of `target` in a child process. limit: seconds for loading, and for each run."""

    def __init__(
        self, target: str, directory: Path, options: Mapping[str, Any], threads: int, limit: float = LIMIT
    ) -> None:
        self._target, self._limit = target, limit
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        self._child = subprocess.Popen(
            [sys.executable, "-m", "segc.isolation"], env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said,
        )  # fmt: skip
        self._end = weakref.finalize(self, _end, self._child, self._said)
        self._ask((target, Path(directory).resolve(), dict(options), threads), "loading the engine")

    def run(self, x: np.ndarray) -> np.ndarray:
        """As the target's own session."""
        return np.asarray(self._ask(np.ascontiguousarray(x), f"running it on {'x'.join(map(str, x.shape))}"))

    def run_named(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """As the session of a target with `multi_io`."""
        shapes = ", ".join("x".join(map(str, array.shape)) for array in inputs.values())
        made: Mapping[str, np.ndarray] = self._ask(dict(inputs), f"running it on {shapes}")  # type: ignore[assignment]
        return made

    def close(self) -> None:
        """End the child."""
        self._end()

    def _ask(self, question: object, doing: str) -> object:
        assert self._child.stdin is not None and self._child.stdout is not None
        late = threading.Event()

        def give_up() -> None:
            late.set()
            self._child.kill()

        timer = threading.Timer(self._limit, give_up)
        timer.daemon = True
        timer.start()
        try:
            pickle.dump(question, self._child.stdin, protocol=5)
            self._child.stdin.flush()
            answer = pickle.load(self._child.stdout)
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise self._died(doing, late.is_set()) from error
        finally:
            timer.cancel()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _died(self, doing: str, late: bool) -> CompileError:
        code = self._child.wait()
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()[-_SHOWN:]
        how = f"it gave no answer within {self._limit:.0f} s" if late else f"its process ended with {_signal(code)}"
        return CompileError(
            f"the {self._target} runtime fails while {doing}", because=[how, *lines],
            so="this is a defect of segc or of the runtime: please report the model",
        )  # fmt: skip


def _signal(code: int) -> str:
    """An exit status in words."""
    if code >= 0:
        return f"exit status {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _end(child: subprocess.Popen[bytes], said: IO[bytes]) -> None:
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout, said):
        if pipe is not None:
            try:
                pipe.close()
            except OSError:  # what was buffered for a child that is gone
                continue


def serve(questions: IO[bytes], answers: IO[bytes]) -> None:
    """The child: load what the first question names, then run each array."""
    from segc import targets

    session: Any = None
    while True:
        try:
            question = pickle.load(questions)
        except EOFError:
            return
        try:
            if session is None:
                name, directory, options, threads = question
                session = targets.get(name).load(directory, options, threads)
                answer: object = None
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


def main() -> None:
    """Keep the pipe for answers to ourselves: runtimes print."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
