"""`segc.bench`: latency, throughput and memory of bundles, each in a process of its own; runs in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from segc import ranges
from segc.errors import Code, CompileError
from segc.isolation.supervisor import Child, ChildEnded
from segc.parity.sample_inputs import noise
from segc.runtime.layer_times import EngineProfile
from segc.runtime.processor import describe
from segc.suggestions import checked_keywords

_FREE_SIZE = (512, 512)
SPIN = 0.1  # seconds: after a run, threads of ONNX Runtime wait for work and take time from whoever runs next


@dataclass(frozen=True)
class BenchResult:
    """Milliseconds per call of the engine on one input, and the peak resident memory of its process in MB.

    q1_ms, q3_ms: quartiles, between which half of the calls lie. threads: asked of the runtime, 0 where it chooses.
    images_per_second: of `streams` callers at once, or None if they were not asked for. profile: of layers, likewise.
    processor: name, cores and
    instruction sets.
    """

    bundle: str
    engine: str
    shape: tuple[int, ...]
    runs: int
    median_ms: float
    q1_ms: float
    q3_ms: float
    p90_ms: float
    load_ms: float
    peak_mb: float
    threads: int
    processor: str
    streams: int | None = None
    images_per_second: float | None = None
    profile: EngineProfile | None = None

    @property
    def noise(self) -> float:
        """Half of the distance between the quartiles, as a share of the median: differences below it say nothing."""
        return (self.q3_ms - self.q1_ms) / 2 / self.median_ms

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain = {**asdict(self), "shape": list(self.shape)}
        return plain if self.profile is not None else {k: v for k, v in plain.items() if k != "profile"}


@checked_keywords
def bench(
    bundles: Sequence[str | Path],
    *,
    runs: int = 20,
    shape: tuple[int, int] | None = None,
    threads: int = 0,
    batch: int | None = None,
    streams: int | None = None,
    warm_up: int = 2,
    pause: float = 0.0,
    profile: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> list[BenchResult]:
    """Measure `runs` calls of each bundle, in turns, so that other load affects all bundles equally.

    Between two bundles it waits until the threads of the runtime that ran before no longer spin.

    shape: (H, W) for dynamic bundles. batch: images of a call, by default those of the engine, or one. streams: measure
    the throughput too, of so many callers at once. warm_up: calls that do not count. pause: seconds before each turn,
    for processors that slow down when they are hot. profile: measure each layer too, last.
    Raises what `segc.load` raises, UsageError for a runtime that has no profile, or CompileError when a process dies.
    """
    ranges.TURNS.require("--warm-up", warm_up)
    ranges.PAUSE.require("--pause", pause)
    if batch is not None:
        ranges.COUNT.require("--batch", batch)
    if streams is not None:
        ranges.JOBS.require("--streams", streams)
    ranges.COUNT.require("--runs", runs)
    ranges.THREADS.require("--threads", threads)
    workers = [_Worker(str(b), shape, threads, batch) for b in bundles]
    try:
        for worker in workers:
            progress(f"loading {worker.bundle}")
            worker.start()
        times: list[list[float]] = [[] for _ in workers]
        for turn in range(runs + warm_up):
            progress(f"run {turn + 1} of {runs + warm_up}")
            time.sleep(pause)
            for worker, measured in zip(workers, times, strict=True):
                if len(workers) > 1:
                    time.sleep(SPIN)
                seconds = worker.ask("run")
                if turn >= warm_up:
                    measured.append(seconds * 1e3)
        peaks = [worker.ask("peak") for worker in workers]  # before engines for several callers take memory too
        rates = [_rate(worker, streams, runs, progress) for worker in workers]
        found = [
            worker.result(measured, peak, streams, rate)
            for worker, measured, peak, rate in zip(workers, times, peaks, rates, strict=True)
        ]
        if not profile:
            return found
        return [replace(one, profile=_profile(w, runs, progress)) for one, w in zip(found, workers, strict=True)]
    finally:
        for worker in workers:
            worker.stop()


def _profile(worker: _Worker, runs: int, progress: Callable[[str], None]) -> EngineProfile:
    progress(f"{worker.bundle}: profiling")
    made: EngineProfile = worker.ask(Layers(runs))
    return made


def _rate(worker: _Worker, streams: int | None, runs: int, progress: Callable[[str], None]) -> float | None:
    """Images a second of so many callers at once, which make `runs` calls each."""
    if streams is None:
        return None
    progress(f"{worker.bundle}: {streams} at once")
    rate: float = worker.ask(Together(streams, runs))
    return rate


class _Worker:
    """A bundle in a fresh interpreter, so that the memory of the process is that of the engine."""

    def __init__(self, bundle: str, shape: tuple[int, int] | None, threads: int, batch: int | None) -> None:
        self.bundle, self._question = bundle, Load(bundle, shape, threads, batch)
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

    def result(self, times: list[float], peak: float, streams: int | None, rate: float | None) -> BenchResult:
        q1, median, q3, p90 = (float(each) for each in np.percentile(times, (25, 50, 75, 90)))
        return BenchResult(
            self.bundle, self._loaded["engine"], self._loaded["shape"], len(times), median, q1, q3, p90,
            self._loaded["seconds"] * 1e3, peak, self._question.threads, describe(), streams, rate,
        )  # fmt: skip

    def stop(self) -> None:
        self._child.close()


@dataclass(frozen=True)
class Load:
    """The first question to the child: the bundle to load, (H, W) for a dynamic input, and the images of a call."""

    bundle: str
    shape: tuple[int, int] | None
    threads: int
    batch: int | None


@dataclass(frozen=True)
class Together:
    """A question to the child: how many images a second so many callers at once get, each in so many calls."""

    streams: int
    runs: int


@dataclass(frozen=True)
class Layers:
    """A question to the child: the time of each layer, medians of so many runs."""

    runs: int


def handler() -> Callable[[Any], object]:
    """See segc.isolation.child. Loads a bundle, then answers "run" with seconds and "peak" with MB."""
    from segc.isolation.memory import peak_memory_mb
    from segc.runtime.engine import Engine, load
    from segc.runtime.layer_times import measured
    from segc.targets import registry

    loaded: list[tuple[Load, Engine, np.ndarray]] = []

    def start(asked: Load) -> dict[str, Any]:
        begin = time.perf_counter()
        engine = load(asked.bundle, threads=asked.threads)
        seconds = time.perf_counter() - begin
        free = (1, 3, *(asked.shape or _FREE_SIZE))
        size = tuple(s or f for s, f in zip(engine.manifest.input.shape, free, strict=True))
        size = (asked.batch or size[0], *size[1:])
        loaded[:] = [(asked, engine, noise(size, images=engine.manifest.input.dtype == "uint8"))]
        made = engine.manifest.target
        build = registry.runtime(made.name).build()
        return {
            "engine": " ".join(filter(None, [made.name, build or made.runtime, engine.manifest.hybrid])),
            "shape": size,
            "seconds": seconds,
        }

    def together(asked: Together) -> float:
        first, _, x = loaded[0]
        engine = load(first.bundle, threads=first.threads, callers=asked.streams)
        with ThreadPoolExecutor(asked.streams) as pool:
            list(pool.map(engine.run, [x] * asked.streams))  # each caller's first run makes what it needs
            begin = time.perf_counter()
            list(pool.map(engine.run, [x] * (asked.streams * asked.runs)))
            return asked.streams * asked.runs * len(x) / (time.perf_counter() - begin)

    def answer(question: Any) -> object:
        if isinstance(question, Load):
            return start(question)
        if question == "peak":
            return peak_memory_mb()
        if isinstance(question, Together):
            return together(question)
        asked, engine, x = loaded[0]
        if isinstance(question, Layers):
            return measured(Path(asked.bundle), engine.manifest, x, asked.threads, question.runs)
        begin = time.perf_counter()
        engine.run(x)
        return time.perf_counter() - begin

    return answer
