"""Latency and memory of bundles: every bundle in its own process, runs interleaved, medians."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from segc.errors import CompileError, SegcError

_FREE_SIZE = (512, 512)
_WARM_UP = 2


@dataclass(frozen=True)
class Result:
    """Milliseconds per call of the engine on one input; peak resident memory of its process in MB."""

    bundle: str
    engine: str
    shape: tuple[int, ...]
    runs: int
    median_ms: float
    p90_ms: float
    load_ms: float
    peak_mb: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "shape": list(self.shape)}


def bench(
    bundles: Sequence[str | Path],
    *,
    runs: int = 20,
    shape: tuple[int, int] | None = None,
    threads: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> list[Result]:
    """Measure `runs` calls of each bundle, in turns, so that a busy machine disturbs all alike.

    shape: (H, W) for dynamic bundles. Raises what `segc.load` raises, or CompileError when a process dies.
    """
    context = multiprocessing.get_context("spawn")  # a clean process: its memory is the engine's
    workers = [_Worker(context, str(b), shape, threads) for b in bundles]
    try:
        for worker in workers:
            progress(f"loading {worker.bundle}")
            worker.start()
        times: list[list[float]] = [[] for _ in workers]
        for turn in range(runs + _WARM_UP):
            progress(f"run {turn + 1} of {runs + _WARM_UP}")
            for worker, measured in zip(workers, times, strict=True):
                seconds = worker.ask("run")
                if turn >= _WARM_UP:
                    measured.append(seconds * 1e3)
        return [worker.result(measured) for worker, measured in zip(workers, times, strict=True)]
    finally:
        for worker in workers:
            worker.stop()


class _Worker:
    def __init__(self, context: Any, bundle: str, shape: tuple[int, int] | None, threads: int) -> None:
        self.bundle = bundle
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, bundle, shape, threads), daemon=True)
        self._loaded: dict[str, Any] = {}

    def start(self) -> None:
        self._process.start()
        self._loaded = self.ask("load")

    def ask(self, what: str) -> Any:
        self._pipe.send(what)
        while not self._pipe.poll(0.2):
            if not self._process.is_alive():
                raise CompileError(
                    f"the process that runs '{self.bundle}' died", because=f"exit code {self._process.exitcode}"
                )
        answer = self._pipe.recv()
        if isinstance(answer, SegcError):
            raise answer
        return answer

    def result(self, times: list[float]) -> Result:
        p90 = float(np.percentile(times, 90))
        return Result(
            self.bundle, self._loaded["engine"], self._loaded["shape"], len(times), float(np.median(times)), p90,
            self._loaded["seconds"] * 1e3, self.ask("peak"),
        )  # fmt: skip

    def stop(self) -> None:
        if self._process.is_alive():
            self._process.terminate()
            self._process.join()


def _noise(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """A batch of `shape` (N, C, H, W), as float32 or as images uint8 (N, H, W, C)."""
    rng = np.random.default_rng(0)
    if dtype == "uint8":
        return rng.integers(0, 256, (shape[0], *shape[2:], shape[1])).astype(np.uint8)
    return rng.standard_normal(shape).astype(np.float32)


def _serve(pipe: Connection, bundle: str, shape: tuple[int, int] | None, threads: int) -> None:
    """In the child: answer 'load', 'run' and 'peak'. Ctrl-C reaches every process of a terminal: the parent ends us."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from segc.isolation.memory import peak_memory_mb
    from segc.runtime.engine import load

    state: dict[str, Any] = {}

    def start() -> dict[str, Any]:
        begin = time.perf_counter()
        state["engine"] = engine = load(bundle, threads=threads)
        seconds = time.perf_counter() - begin
        free = (1, 3, *(shape or _FREE_SIZE))
        size = tuple(s or f for s, f in zip(engine.manifest.input.shape, free, strict=True))
        state["x"] = _noise(size, engine.manifest.input.dtype)
        made = engine.manifest.target
        return {
            "engine": " ".join(filter(None, [made.name, made.runtime, engine.manifest.hybrid])),
            "shape": size,
            "seconds": seconds,
        }

    def run() -> float:
        begin = time.perf_counter()
        state["engine"].run(state["x"])
        return time.perf_counter() - begin

    answers: dict[str, Callable[[], Any]] = {"load": start, "run": run, "peak": peak_memory_mb}
    while True:
        try:
            pipe.send(answers[pipe.recv()]())
        except SegcError as error:
            pipe.send(error)
        except EOFError:
            return
