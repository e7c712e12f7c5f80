"""PPLNN, where somebody has built it, in a process of its own: it may crash or hang, and it flushes denormals."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.machinery import PathFinder
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from segc.errors import CompileError
from segc.targets.base import Settings
from segc.targets.pplnn import worker

ABSENT = (
    "no pyppl.nn here; it comes from a build of OpenPPL's ppl.nn (docs/pplnn.md), from no package index: what is"
    " called pyppl there is another project"
)
PROBE_SECONDS = 60
LINES = 5  # of what PPLNN logged, in an error


def cannot_run(settings: Settings) -> str | None:
    """Why no engine of this device runs here, or None."""
    if not importable():
        return ABSENT
    device = settings.options.get("device", "x86")
    code = f"from pyppl import common, nn; nn.onnx.RuntimeBuilderFactory, nn.{device}.EngineFactory"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=_environment(0), timeout=PROBE_SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"pyppl.nn does not load within {PROBE_SECONDS} seconds"
    if done.returncode == 0:
        return None
    said = done.stderr.strip().splitlines()
    return f"this build of pyppl.nn does not run on {device}: {said[-1] if said else f'exit {done.returncode}'}"


def importable() -> bool:
    """Whether there is a module pyppl.nn. Nothing is imported: another project of that name may do anything."""
    spec = find_spec("pyppl")
    places = None if spec is None else spec.submodule_search_locations
    return places is not None and PathFinder.find_spec("nn", list(places)) is not None


class PplnnSession:
    """The engine in its process. Each call may take `limit` seconds."""

    def __init__(self, folder: Path, limit: float, threads: int) -> None:
        self._limit = limit
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
        ours, theirs = socket.socketpair()
        # by its file, not as a module: it needs nothing of segc, and starts in a tenth of the time
        command = [sys.executable, "-P", worker.__file__, str(theirs.fileno()), str(folder)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env=_environment(threads),
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        self._connection = Connection(ours.detach())
        self._answer("load the model")

    def run(self, x: np.ndarray) -> np.ndarray:
        """x: float32 (N, C, H, W). Raises CompileError when PPLNN refuses, crashes or takes too long."""
        try:
            self._connection.send(x)
        except OSError as error:
            raise CompileError("PPLNN is gone", because=self._ending()) from error
        return np.asarray(self._answer("run the model"))

    def __del__(self) -> None:
        if hasattr(self, "_process"):
            self._process.kill()
            self._process.wait()
        for each in ("_connection", "_log"):
            if hasattr(self, each):
                getattr(self, each).close()

    def _answer(self, doing: str) -> Any:
        try:
            if not self._connection.poll(self._limit):
                self._process.kill()
                raise CompileError(
                    f"PPLNN does not {doing}", because=[f"no answer within {self._limit:g} seconds", *self._said()]
                )
            kind, value = self._connection.recv()
        except (EOFError, OSError) as error:
            raise CompileError(f"PPLNN does not {doing}", because=[self._ending(), *self._said()]) from error
        if kind != worker.DONE:
            raise CompileError(f"PPLNN does not {doing}", because=[str(value), *self._said()])
        return value

    def _ending(self) -> str:
        try:
            code = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return "its process hung up"
        return f"its process died of {signal.Signals(-code).name}" if code < 0 else f"its process ended with {code}"

    def _said(self) -> list[str]:
        """The last lines of the log."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace").strip().splitlines()[-LINES:]


def load(directory: Path, options: Mapping[str, Any], threads: int) -> PplnnSession:
    """A session on what `emit` wrote."""
    if not importable():
        raise CompileError(
            "PPLNN is not here", because=ABSENT, where=str(directory),
            so="build ppl.nn from source; model.onnx of the bundle also runs in ONNX Runtime",
        )  # fmt: skip
    return PplnnSession(directory, float(options["time_limit"]), threads)


def _environment(threads: int) -> dict[str, str]:
    """The child finds the modules that this process finds."""
    paths = os.pathsep.join(dict.fromkeys(str(Path(p).resolve()) for p in sys.path))
    own = {"OMP_NUM_THREADS": str(threads)} if threads else {}
    return {**os.environ, "PYTHONPATH": paths, **own}
