"""Run the support matrix: compile and verify every model for every target, static and dynamic, logits and masks.

A job is one config. Each job runs in a child process with a time limit, so that a crash or a hang fails one row only;
see segc/isolation/supervisor.py. Finished jobs are appended to a state file, and a new run with the same file continues
where the last one stopped. Jobs run on this machine or on the workers of a Dask cluster.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

from segc import cluster
from segc.files.errors import file_errors
from segc.isolation.supervisor import Child, ChildEnded, ChildRaised
from segc.support_matrix.cells import FAILED, Cell, Job

_log = logging.getLogger(__name__)


def regressions(cells: Sequence[Cell], before: Sequence[Cell]) -> list[Cell]:
    """The cells that are not good, except those that were not good in an earlier run either."""
    failed_before = {cell.place for cell in before if not cell.good}
    return [cell for cell in cells if not cell.good and cell.place not in failed_before]


def run(
    jobs: Sequence[Job],
    *,
    workers: int = 2,
    timeout: float = 900.0,
    state: Path | None = None,
    scheduler: str | None = None,
    done: Callable[[Job, list[Cell]], None] = lambda *_: None,
) -> list[Cell]:
    """Run all jobs, `workers` at a time. Returns the cells in the order of the jobs.

    timeout: seconds for one job. state: file of finished jobs, which is read first and appended to. scheduler: address
    of a Dask scheduler whose workers run the jobs. done: called after each job. Raises MissingPackageError if Dask is
    missing, FileError if the scheduler does not answer.
    """
    finished = _read_state(state)
    for job in jobs:
        if job.key in finished:
            _log.info("%s: taken from %s", job.key, state)
            done(job, finished[job.key])
    open_jobs = [job for job in jobs if job.key not in finished]
    with _pool(workers) if scheduler is None else _dask(scheduler) as submit:
        pending = {submit(job, timeout): job for job in open_jobs}
        while pending:
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                job = pending.pop(future)
                finished[job.key] = future.result()
                _append_state(state, job, finished[job.key])
                _log.info("%s: done", job.key)
                done(job, finished[job.key])
    return [cell for job in jobs for cell in _with_copies(job, finished[job.key])]


def run_isolated(job: Job, timeout: float = 900.0) -> list[Cell]:
    """Run the job in a child process. A crash or a time-out makes all its cells failed."""
    child = Child("segc.support_matrix.job")
    try:
        cells: list[Cell] = child.ask(job, timeout)
        return cells
    except ChildEnded as ended:
        return job.all(FAILED, ended.reason if ended.timed_out else ": ".join([ended.reason, *ended.lines[-1:]]))
    except ChildRaised as raised:
        return job.all(FAILED, f"bug: {raised}")
    finally:
        child.close()


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
    """Submit to a Dask cluster. There too, every job runs in a child process."""
    with cluster.client(address) as client:
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
            continue  # the last line of a run that was interrupted
        found[row["key"]] = [_cell(cell) for cell in row["cells"]]
    return found


def _cell(row: dict[str, Any]) -> Cell:
    return Cell(**{**row, "sizes": tuple(row["sizes"])})


def _append_state(state: Path | None, job: Job, cells: list[Cell]) -> None:
    """Add a line; one that a killed run left unfinished is ended first, so that it spoils itself alone."""
    if state is None:
        return
    line = json.dumps({"key": job.key, "cells": [asdict(cell) for cell in cells]}) + "\n"
    with file_errors(f"'{state}'", state, needed=lambda: len(line)), state.open("ab+") as file:
        if end := file.tell():
            file.seek(end - 1)
            line = line if file.read(1) == b"\n" else "\n" + line
        file.write(line.encode())
