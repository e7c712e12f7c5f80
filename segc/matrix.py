"""The support matrix: every model x target x static or dynamic x logits or mask, compiled and verified for real.

One job is one config. It runs in a process of its own with a time limit, so a crash or a hang costs one row, and
inside it all cells share the model, the traces and the reference outputs. Finished jobs are appended to a state file;
a run that is started again with the same file goes on where it stopped.
"""

from __future__ import annotations

import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from segc.errors import SegcError

OK, FAILED, CANNOT = "ok", "failed", "PyTorch cannot run it here"
SHAPES, OUTPUTS = ("static", "dynamic"), ("logits", "mask")
RELATIVE_ERROR, AGREEMENT = 1.5e-3, 0.999  # deep attention nets with seeded weights need more than the default 1e-3


@dataclass(frozen=True)
class Job:
    """One config and the cells to fill. size: (H, W) to compile or trace at, None takes the config's crop size."""

    family: str
    config: str
    targets: tuple[str, ...]
    shapes: tuple[str, ...] = SHAPES
    outputs: tuple[str, ...] = OUTPUTS
    size: tuple[int, int] | None = None
    threads: int = 1

    @property
    def key(self) -> str:
        """Names the job in a state file: equal keys, equal work."""
        size = "crop" if self.size is None else "x".join(map(str, self.size))
        return " ".join([self.config, size, *self.targets, *self.shapes, *self.outputs])


@dataclass(frozen=True)
class Cell:
    """One result. error and agreement are the worst over all inputs and sizes; seconds per step of the compile."""

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


def run(
    jobs: Sequence[Job],
    *,
    workers: int = 2,
    timeout: float = 900.0,
    state: Path | None = None,
    done: Callable[[Job, list[Cell]], None] = lambda *_: None,
) -> list[Cell]:
    """Run all jobs, `workers` at a time; `done` hears of each as it ends. Returns the cells in the order of the jobs.

    timeout: seconds for one job. state: file of finished jobs, read first and appended to.
    """
    finished = _read_state(state)
    for job in jobs:
        if job.key in finished:
            done(job, finished[job.key])
    with ThreadPoolExecutor(workers) as pool:
        pending: dict[Future[list[Cell]], Job] = {
            pool.submit(run_isolated, job, timeout): job for job in jobs if job.key not in finished
        }
        try:
            while pending:
                for future in wait(pending, return_when=FIRST_COMPLETED).done:
                    job = pending.pop(future)
                    finished[job.key] = future.result()
                    _append_state(state, job, finished[job.key])
                    done(job, finished[job.key])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [cell for job in jobs for cell in finished[job.key]]


def run_isolated(job: Job, timeout: float = 900.0) -> list[Cell]:
    """`run_job` in a fresh process; a crash or a time-out becomes a row of failed cells."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(theirs, job), daemon=True)
    process.start()
    theirs.close()
    try:
        if ours.poll(timeout):
            cells: list[Cell] = ours.recv()
            return cells
        reason = f"no answer within {timeout:.0f} s"
    except EOFError:
        process.join(10)
        reason = f"the process died with exit code {process.exitcode}"
    finally:
        if process.is_alive():
            process.kill()
        process.join()
    return list(_all(job, FAILED, reason))


def run_job(job: Job) -> list[Cell]:
    """All cells of one config, in this process."""
    import torch

    from segc.driver import Request, compile_request
    from segc.shared import Shared

    torch.set_num_threads(job.threads)
    if why := _eager_failure(job):
        return list(_all(job, CANNOT, why))
    shared, cells = Shared(), []
    with tempfile.TemporaryDirectory() as folder:
        for shape, target, output in _places(job):
            size = {"shape": job.size} if shape == "static" else {"trace_shape": job.size, "dynamic": True}
            out = Path(folder) / f"{target}-{shape}-{output}"
            error, agreement = limits(target)
            request = Request(
                job.config, target=target, output=output, mode="whole", max_error=error, min_agreement=agreement,
                threads=job.threads, out=out, **size,
            )  # fmt: skip
            cells.append(_cell(job, target, shape, output, lambda r=request: compile_request(r, shared=shared)))  # type: ignore[misc]
    return cells


def limits(target: str) -> tuple[float | None, float | None]:
    """Largest relative error and least agreement in the matrix; (None, None) leaves a target its own."""
    from segc import targets

    return (None, None) if "fp32" in targets.get(target).limits else (RELATIVE_ERROR, AGREEMENT)


def _cell(job: Job, target: str, shape: str, output: str, make: Callable[[], Any]) -> Cell:
    place = (job.family, job.config, target, shape, output)
    start = time.perf_counter()
    try:
        report = make().report
    except SegcError as error:
        reason = "; ".join([error.what, *error.details["because"]])
        return Cell(*place, FAILED, reason, seconds={"total": time.perf_counter() - start})
    except Exception as error:  # a bug costs one cell and is named
        return Cell(*place, FAILED, f"bug: {type(error).__name__}: {error}")
    cases = report["parity"]["cases"]
    errors = [float(c["relative_error"]) for c in cases if c["relative_error"] is not None]
    ratios = [float(c["margin_ratio"]) for c in cases if c["margin_ratio"] is not None]
    return Cell(
        *place,
        OK,
        error=max(errors, default=None),
        agreement=min(c["agreement"] for c in cases),
        margin_ratio=max(ratios, default=None),
        sizes=tuple(dict.fromkeys("x".join(map(str, c["shape"])) for c in cases)),
        seconds=report["timings"]["seconds"],
    )


def _eager_failure(job: Job) -> str | None:
    """Why PyTorch itself does not build or run the model here, or None."""
    from segc.frontend.source import open_source
    from segc.frontend.trace import accepts

    try:
        source = open_source(job.config, mode="whole")
    except SegcError as error:
        return "; ".join([error.what, *error.details["because"]])
    assert source.module is not None
    return accepts(source.module, (1, source.info.in_channels, *(job.size or source.info.shape)))


def _places(job: Job) -> Iterator[tuple[str, str, str]]:
    """(shape, target, output), in the order that shares most."""
    return ((s, t, o) for s in job.shapes for t in job.targets for o in job.outputs)


def _all(job: Job, status: str, reason: str) -> Iterator[Cell]:
    return (Cell(job.family, job.config, t, s, o, status, reason) for s, t, o in _places(job))


def _serve(pipe: Connection, job: Job) -> None:
    pipe.send(run_job(job))


def _read_state(state: Path | None) -> dict[str, list[Cell]]:
    if state is None or not state.is_file():
        return {}
    found = {}
    for line in state.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue  # the line that was being written when the run was stopped
        found[row["key"]] = [Cell(**{**cell, "sizes": tuple(cell["sizes"])}) for cell in row["cells"]]
    return found


def _append_state(state: Path | None, job: Job, cells: list[Cell]) -> None:
    if state is not None:
        with state.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"key": job.key, "cells": [asdict(cell) for cell in cells]}) + "\n")
