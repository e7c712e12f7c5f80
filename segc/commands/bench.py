"""`segc.bench`: latency and memory of bundles, each in a process of its own; medians of runs in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segc import ranges
from segc.errors import Code, CompileError
from segc.isolation.supervisor import Child, ChildEnded
from segc.parity.sample_inputs import noise
from segc.suggestions import checked_keywords

_FREE_SIZE = (512, 512)
_WARM_UP = 2


@dataclass(frozen=True)
class BenchResult:
    """Milliseconds per call of the engine on one input, and the peak resident memory of its process in MB."""

    bundle: str
    engine: str
    shape: tuple[int, ...]
    runs: int
    median_ms: float
    p90_ms: float
    load_ms: float
    peak_mb: float

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "shape": list(self.shape)}


@checked_keywords
def bench(
    bundles: Sequence[str | Path],
    *,
    runs: int = 20,
    shape: tuple[int, int] | None = None,
    threads: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> list[BenchResult]:
    """Measure `runs` calls of each bundle, in turns, so that other load affects all bundles equally.

    shape: (H, W) for dynamic bundles. Raises what `segc.load` raises, or CompileError when a process dies.
    """
    ranges.COUNT.require("--runs", runs)
    ranges.THREADS.require("--threads", threads)
    workers = [_Worker(str(b), shape, threads) for b in bundles]
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
    """A bundle in a fresh interpreter, so that the memory of the process is that of the engine."""

    def __init__(self, bundle: str, shape: tuple[int, int] | None, threads: int) -> None:
        self.bundle, self._question = bundle, Load(bundle, shape, threads)
        self._child = Child("segc.commands.bench", fresh=True)
        self._loaded: dict[str, Any] = {}

    def start(self) -> None:
        self._loaded = self.ask(self._question)

    def ask(self, question: object) -> Any:
        try:
            return self._child.ask(question, None)
        except ChildEnded as ended:
            raise CompileError(
                f"the process that runs '{self.bundle}' died",
                code=Code.ENGINE_PROCESS,
                because=[ended.reason, *ended.lines],
            ) from ended

    def result(self, times: list[float]) -> BenchResult:
        p90 = float(np.percentile(times, 90))
        return BenchResult(
            self.bundle, self._loaded["engine"], self._loaded["shape"], len(times), float(np.median(times)), p90,
            self._loaded["seconds"] * 1e3, self.ask("peak"),
        )  # fmt: skip

    def stop(self) -> None:
        self._child.close()


@dataclass(frozen=True)
class Load:
    """The first question to the child: the bundle to load, and (H, W) for a dynamic input."""

    bundle: str
    shape: tuple[int, int] | None
    threads: int


def handler() -> Callable[[Any], object]:
    """See segc.isolation.child. Loads a bundle, then answers "run" with seconds and "peak" with MB."""
    from segc.isolation.memory import peak_memory_mb
    from segc.runtime.engine import Engine, load
    from segc.targets import registry

    loaded: list[tuple[Engine, np.ndarray]] = []

    def start(asked: Load) -> dict[str, Any]:
        begin = time.perf_counter()
        engine = load(asked.bundle, threads=asked.threads)
        seconds = time.perf_counter() - begin
        free = (1, 3, *(asked.shape or _FREE_SIZE))
        size = tuple(s or f for s, f in zip(engine.manifest.input.shape, free, strict=True))
        loaded[:] = [(engine, noise(size, images=engine.manifest.input.dtype == "uint8"))]
        made = engine.manifest.target
        build = registry.runtime(made.name).build()
        return {
            "engine": " ".join(filter(None, [made.name, build or made.runtime, engine.manifest.hybrid])),
            "shape": size,
            "seconds": seconds,
        }

    def answer(question: Any) -> object:
        if isinstance(question, Load):
            return start(question)
        if question == "peak":
            return peak_memory_mb()
        engine, x = loaded[0]
        begin = time.perf_counter()
        engine.run(x)
        return time.perf_counter() - begin

    return answer
