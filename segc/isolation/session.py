"""Run an engine in a process of its own: what a runtime does to its process is then an error, not the end of ours.

Some runtimes check nothing: an engine that they misread reads and writes memory that is not theirs. `isolated` loads a
target's engine in a child process and passes arrays to and fro over pipes. A child that dies or does not answer in time
is a CompileError that says so; errors that the target raises in the child are raised here.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import tempfile
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from segc.errors import CompileError
from segc.isolation.client import EngineProcess, start
from segc.isolation.fork_server import Engine

LIMIT = 900.0  # seconds for one answer
_SHOWN = 5  # lines of what the child printed


class IsolatedSession:
    """A session of `target` in a child process. limit: seconds for loading, and for each run."""

    def __init__(
        self, target: str, directory: Path, options: Mapping[str, Any], threads: int, limit: float = LIMIT
    ) -> None:
        self._target, self._limit = target, limit
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        self._child = start(target, self._said)
        self._end = weakref.finalize(self, _end, self._child, self._said)
        engine = Engine(target, Path(directory).resolve(), dict(options), threads, dict(os.environ), tuple(sys.path))
        self._ask(engine, "loading the engine")

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
        late = threading.Event()

        def give_up() -> None:
            late.set()
            self._child.kill()

        timer = threading.Timer(self._limit, give_up)
        timer.daemon = True
        timer.start()
        try:
            pickle.dump(question, self._child.questions, protocol=5)
            self._child.questions.flush()
            answer = pickle.load(self._child.answers)
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


def _end(child: EngineProcess, said: IO[bytes]) -> None:
    child.kill()
    child.wait()
    for pipe in (child.questions, child.answers, said):
        with contextlib.suppress(OSError):  # what was buffered for a child that is gone
            pipe.close()
