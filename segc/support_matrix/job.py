"""One job of the support matrix: a task of segc.isolation, so that each can run in a process of its own.

All cells of the config share the opened model, its traces and its reference outputs.
"""

from __future__ import annotations

import gc
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from segc.commands.compile import compile_request
from segc.compilation.cache import CompileCache
from segc.compilation.request import Request, open_shared
from segc.errors import Code, SegcError, ShapeError
from segc.frontend.model import Source
from segc.parity.limits import NEAR_TIE, of_matrix
from segc.parity.reference import reference_of
from segc.support_matrix.cells import CANNOT, FAILED, HYBRID, OK, Cell, Job

_REASONS = 3


def run_job(job: Job) -> list[Cell]:
    """All cells of one config, in this process."""
    import torch

    torch.set_num_threads(job.threads)
    cache, cells = CompileCache(), list[Cell]()
    try:
        job = replace(job, size=accepted_size(job, cache))
    except SegcError as refusal:
        return job.all(CANNOT, _reason(refusal))
    with tempfile.TemporaryDirectory() as folder:
        traced = ""
        for at, (shape, target, output) in enumerate(job.places()):
            if shape != traced:
                cache.forget_traces()  # all places of one shape come one after the other
                traced = shape
            size: dict[str, Any] = {"shape": job.size} if shape == "static" else {"dynamic": True}
            if shape == "dynamic":
                size["trace_shape"] = job.size
            error, agreement = limits(target)
            out = Path(folder) / str(at)
            request = Request(
                job.config, target=target, output=output, mode="whole", max_error=error, min_agreement=agreement,
                threads=job.threads, out=out, **size,
            )  # fmt: skip
            cells.append(_cell(job, target, shape, output, lambda r=request: compile_request(r, cache=cache)))  # type: ignore[misc]
            gc.collect()  # a graph is full of cycles, and holds all weights until they are found
            shutil.rmtree(out, ignore_errors=True)  # the engines of a large model together need tens of gigabytes
    return cells


def limits(target: str) -> tuple[float | None, float | None]:
    """Largest relative error and least agreement in the matrix; (None, None) leaves a target its own."""
    from segc import targets

    found = of_matrix(targets.get(target).limits)
    return (None, None) if found is None else (found.relative_error, found.agreement)


def _cell(job: Job, target: str, shape: str, output: str, make: Callable[[], Any]) -> Cell:
    place = (job.family, job.config, target, shape, output)
    start = time.perf_counter()
    try:
        report = make().report
    except SegcError as error:
        return Cell(*place, FAILED, _reason(error), seconds={"total": time.perf_counter() - start})
    except Exception as error:  # a bug costs one cell and is named
        return Cell(*place, FAILED, f"bug: {type(error).__name__}: {error}")
    return Cell(*place, **_judged(report))


def _judged(report: dict[str, Any]) -> dict[str, Any]:
    """Status and figures of a report. An engine that did not run keeps its word as status, and the reason."""
    cases = report["parity"]["cases"]
    errors = [float(c["relative_error"]) for c in cases if c["relative_error"] is not None]
    ratios = [float(c["margin_ratio"]) for c in cases if c["margin_ratio"] is not None]
    status, reason = report["status_kind"], report["status_reason"] or ""
    hybrid = report.get("hybrid")
    if hybrid and status == OK:
        status = HYBRID
    by_pixels = report["parity"]["limits"]["relative_error"] is None
    if not by_pixels and max(ratios, default=0.0) > NEAR_TIE:
        status, reason = FAILED, f"a differing pixel is no near tie: margin {max(ratios):.1f} times the logit error"
    return {
        "status": status,
        "reason": reason,
        "error": max(errors, default=None),
        "agreement": min(c["agreement"] for c in cases),
        "margin_ratio": max(ratios, default=None),
        "sizes": tuple(dict.fromkeys("x".join(map(str, c["shape"])) for c in cases)),
        "seconds": report["timings"]["seconds"],
        "segments": hybrid["segments"] if hybrid else 1,
        "host_nodes": hybrid["host_nodes"] if hybrid else 0,
    }


def accepted_size(job: Job, cache: CompileCache) -> tuple[int, int]:
    """The job's size, or the config's crop size where PyTorch rejects that: some models take no other.

    Raises SourceError when the model cannot be built here, ShapeError when PyTorch runs it at neither.
    """
    from segc.frontend.trace import accepts

    source = open_shared(Request(job.config, mode="whole"), cache)
    assert source.module is not None
    sizes = dict.fromkeys(size for size in (job.size, source.info.shape) if size is not None)
    said: dict[str, list[str]] = {}
    for size in sizes:
        shape = (1, source.info.in_channels, *size)
        why = accepts(source.module, shape) and _eager_failure(source, shape)  # without data most is said, not all
        if why is None:
            return size
        said.setdefault(why, []).append(f"{size[0]}x{size[1]}")
    because = [f"at {' and '.join(at)}: {why}" for why, at in said.items()]
    raise ShapeError("PyTorch does not run the model", code=Code.MODEL_SHAPE, because=because)


def _eager_failure(source: Source, shape: tuple[int, int, int, int]) -> str | None:
    try:
        reference_of(source)(np.zeros(shape, np.float32))
    except Exception as error:  # the model is the user's
        return f"{type(error).__name__}: {error}"
    return None


def _reason(error: SegcError) -> str:
    """What and why, without the long tail of a long list."""
    because = list(error.details["because"])
    more = [f"and {len(because) - _REASONS} more reasons"] if len(because) > _REASONS else []
    return "; ".join([error.what, *because[:_REASONS], *more])


def prepare(_: str) -> None:
    """Import what every job needs, for all forks; where it is missing the job reports that."""
    import onnxruntime
    import onnxscript
    import torch.onnx._internal.exporter._core  # noqa: F401

    from segc.frontend.mmseg_env import import_mmseg

    del onnxruntime, onnxscript
    import_mmseg()
    import mmseg.models  # noqa: F401


def handler() -> Callable[[Job], list[Cell]]:
    """The function that answers in a child process, see segc.isolation.child."""
    return run_job
