"""The support matrix: every model x target x static or dynamic x logits or mask, compiled and verified for real.

One job is one config. It runs in a process of its own with a time limit, so a crash or a hang costs one row; see
segc/support_matrix/worker.py. Finished jobs are appended to a state file; a run started again with the same file goes
on where it stopped. Jobs run on this machine, or on the workers of a Dask cluster.
"""

from __future__ import annotations

import json
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from segc.errors import FileError, MissingPackageError
from segc.support_matrix.worker import worker_of_this_thread

OK, HYBRID, FAILED, CANNOT = "ok", "hybrid", "failed", "PyTorch cannot run it here"
SHAPES, OUTPUTS = ("static", "dynamic"), ("logits", "mask")
_LAST_WORDS = 300  # characters of what a dying process wrote


@dataclass(frozen=True)
class Job:
    """One config and the cells to fill. size: (H, W) to compile or trace at, None takes the config's crop size.

    same: configs of the very same model (they differ in training only); they get copies of this one's cells.
    """

    family: str
    config: str
    targets: tuple[str, ...]
    shapes: tuple[str, ...] = SHAPES
    outputs: tuple[str, ...] = OUTPUTS
    size: tuple[int, int] | None = None
    threads: int = 1
    same: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Names the job in a state file: equal keys, equal work."""
        size = "crop" if self.size is None else "x".join(map(str, self.size))
        return " ".join([self.config, size, *self.targets, *self.shapes, *self.outputs])

    def places(self) -> Iterator[tuple[str, str, str]]:
        """(shape, target, output) of every cell, in the order that shares most."""
        return ((s, t, o) for s in self.shapes for t in self.targets for o in self.outputs)

    def all(self, status: str, reason: str) -> list[Cell]:
        """Every cell with one status."""
        return [Cell(self.family, self.config, t, s, o, status, reason) for s, t, o in self.places()]


@dataclass(frozen=True)
class Cell:
    """One result. error and agreement are the worst over all inputs and sizes; seconds per step of the compile.

    status: OK, HYBRID, the target's word for an engine that does not run here, FAILED or CANNOT. same_as: the config
    of the same model that was compiled in place of this one. host_nodes: nodes that ONNX Runtime runs for the target.
    """

    family: str
    config: str
    target: str
    shape: str
    output: str
    status: str
    reason: str = ""
    error: float | None = None
    agreement: float | None = None
    margin_ratio: float | None = None
    sizes: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    same_as: str = ""
    segments: int = 1
    host_nodes: int = 0

    @property
    def hybrid(self) -> bool:
        """Whether ONNX Runtime runs a part of it."""
        return self.host_nodes > 0

    @property
    def good(self) -> bool:
        """Whether a bundle came out that passed its gate."""
        return self.status not in (FAILED, CANNOT)


def regressions(cells: Sequence[Cell], before: Sequence[Cell]) -> list[Cell]:
    """Cells that are not good, and were in an earlier run. A cell that the earlier run lacks must be good as well."""
    fell_short = {(c.config, c.target, c.shape, c.output) for c in before if not c.good}
    return [
        cell
        for cell in cells
        if not cell.good and (cell.config, cell.target, cell.shape, cell.output) not in fell_short
    ]


def run(
    jobs: Sequence[Job],
    *,
    workers: int = 2,
    timeout: float = 900.0,
    state: Path | None = None,
    scheduler: str | None = None,
    done: Callable[[Job, list[Cell]], None] = lambda *_: None,
) -> list[Cell]:
    """Run all jobs, `workers` at a time; `done` hears of each as it ends. Returns the cells in the order of the jobs.

    timeout: seconds for one job. state: file of finished jobs, read first and appended to. scheduler: address of a
    Dask scheduler, whose workers then do the work. Raises MissingPackageError without Dask, FileError when the
    scheduler does not answer.
    """
    finished = _read_state(state)
    for job in jobs:
        if job.key in finished:
            done(job, finished[job.key])
    open_jobs = [job for job in jobs if job.key not in finished]
    with _pool(workers) if scheduler is None else _dask(scheduler) as submit:
        pending = {submit(job, timeout): job for job in open_jobs}
        while pending:
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                job = pending.pop(future)
                finished[job.key] = future.result()
                _append_state(state, job, finished[job.key])
                done(job, finished[job.key])
    return [cell for job in jobs for cell in _with_copies(job, finished[job.key])]


def run_isolated(job: Job, timeout: float = 900.0) -> list[Cell]:
    """The job in a fresh process; a crash or a time-out becomes a row of failed cells."""
    with tempfile.TemporaryDirectory() as folder:
        asked, answer, said = (Path(folder) / name for name in ("job.json", "cells.json", "output.txt"))
        asked.write_text(json.dumps(asdict(job)), encoding="utf-8")
        code = worker_of_this_thread().run(asked, answer, said, timeout)
        if code is None:
            return job.all(FAILED, f"no answer within {timeout:.0f} s")
        if code == 0:
            return [_cell(row) for row in json.loads(answer.read_text(encoding="utf-8"))]
        last = said.read_bytes()[-_LAST_WORDS:].decode(errors="replace").strip() if said.is_file() else ""
    return job.all(FAILED, _ended(code) + (f": {last.splitlines()[-1]}" if last else ""))


def _ended(code: int) -> str:
    """What an exit code says; below 0 it is a signal's."""
    if code == -signal.SIGKILL:
        return "the process was killed, as systems do when memory runs out"
    return f"the process died with exit code {code}"


Submit = Callable[[Job, float], "Future[list[Cell]]"]


@contextmanager
def _pool(workers: int) -> Iterator[Submit]:
    pool = ThreadPoolExecutor(workers)
    try:
        yield lambda job, timeout: pool.submit(run_isolated, job, timeout)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def _dask(address: str) -> Iterator[Submit]:
    """Dask's executor speaks concurrent.futures. Every job runs in a process of its own there as well."""
    try:
        import distributed
    except ImportError as error:
        raise MissingPackageError(
            "--scheduler needs Dask", because="the package 'distributed' is not installed", so="pip install distributed"
        ) from error
    try:
        client: Any = distributed.Client(address, timeout=10)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise FileError(
            f"no Dask scheduler answers at '{address}'", because=str(error), so="start one: dask scheduler"
        ) from error
    with client:
        executor = client.get_executor(pure=False)
        yield lambda job, timeout: cast("Future[list[Cell]]", executor.submit(run_isolated, job, timeout))


def _with_copies(job: Job, cells: list[Cell]) -> Iterator[Cell]:
    yield from cells
    for name in job.same:
        yield from (replace(cell, config=name, same_as=job.config, seconds={}) for cell in cells)


def _read_state(state: Path | None) -> dict[str, list[Cell]]:
    if state is None or not state.is_file():
        return {}
    found = {}
    for line in state.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue  # the line that was being written when the run was stopped
        found[row["key"]] = [_cell(cell) for cell in row["cells"]]
    return found


def _cell(row: dict[str, Any]) -> Cell:
    return Cell(**{**row, "sizes": tuple(row["sizes"])})


def _append_state(state: Path | None, job: Job, cells: list[Cell]) -> None:
    if state is not None:
        with state.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"key": job.key, "cells": [asdict(cell) for cell in cells]}) + "\n")
