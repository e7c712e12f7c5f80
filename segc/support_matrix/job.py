"""Run one job of the support matrix. The module is a task of segc.isolation, so that each job can run in a child.

All cells of a config share the opened model, its traces and its reference outputs.
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
from segc.support_matrix.elsewhere import written

_REASONS = 3


def run_job(job: Job) -> list[Cell]:
    """Compile and verify all cells of one config in this process."""
    import torch

    torch.set_num_threads(job.threads)
    cache, cells = CompileCache(), list[Cell]()
    with tempfile.TemporaryDirectory() as folder:
        source = written(job.config, Path(folder))
        try:
            job = replace(job, size=accepted_size(job, cache, source))
        except SegcError as refusal:
            return job.all(CANNOT, _reason(refusal))
        traced = ""
        for index, (shape, target, output) in enumerate(job.places()):
            if shape != traced:
                cache.forget_traces()  # all cells of one shape follow each other
                traced = shape
            size: dict[str, Any] = {"shape": job.size} if shape == "static" else {"dynamic": True}
            if shape == "dynamic":
                size["trace_shape"] = job.size
            error, agreement = limits(target)
            out = Path(folder) / str(index)
            request = Request(
                source, target=target, output=output, decode="graph" if output == "mask" else None, mode="whole",
                max_error=error, min_agreement=agreement,
                threads=job.threads, out=out, **size,
            )  # fmt: skip
            cells.append(_cell(job, target, shape, output, lambda r=request: compile_request(r, cache=cache)))  # type: ignore[misc]
            gc.collect()  # a graph has reference cycles, which keep all weights in memory
            shutil.rmtree(out, ignore_errors=True)  # all engines of a large model together have tens of gigabytes
    return cells


def limits(target: str) -> tuple[float | None, float | None]:
    """The matrix's largest relative error and least agreement; (None, None) for a target with limits of its own."""
    from segc import targets

    found = of_matrix(targets.get(target).limits)
    return (None, None) if found is None else (found.relative_error, found.agreement)


def _cell(job: Job, target: str, shape: str, output: str, make: Callable[[], Any]) -> Cell:
    place = (job.family, job.config, target, shape, output)
    start = time.perf_counter()
    try:
        report = make().report
    except SegcError as error:
        # PyTorch itself runs such a model at one size, or squares, only: nothing failed
        status = CANNOT if shape == "dynamic" and error.code == Code.FIXED_SHAPE else FAILED
        return Cell(*place, status, _reason(error), seconds={"total": time.perf_counter() - start})
    except Exception as error:  # a bug fails one cell, not the job
        return Cell(*place, FAILED, f"bug: {type(error).__name__}: {error}")
    return Cell(*place, **_figures(report))


def _figures(report: dict[str, Any]) -> dict[str, Any]:
    """A cell's status and figures, from the report of a compile."""
    cases = report["parity"]["cases"]
    errors = [float(c["relative_error"]) for c in cases if c["relative_error"] is not None]
    ratios = [float(c["margin_ratio"]) for c in cases if c["margin_ratio"] is not None]
    status, reason = report["status_kind"], report["status_reason"] or ""
    hybrid = report.get("hybrid")
    if hybrid and status == OK:
        status = HYBRID
    by_pixels = report["parity"]["limits"]["relative_error"] is None
    if not by_pixels and max(ratios, default=0.0) > NEAR_TIE:
        status = FAILED
        reason = f"a differing pixel is not a near tie: its margin is {max(ratios):.1f} times the logit error"
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
        "graph": report["graph"],
    }


def accepted_size(job: Job, cache: CompileCache, source_name: str | None = None) -> tuple[int, int]:
    """The job's size or, if PyTorch does not run the model at it, the config's crop size.

    Raises SourceError if the model cannot be built, ShapeError if PyTorch runs it at neither size.
    """
    from segc.frontend.trace import accepts

    source = open_shared(Request(source_name or job.config, mode="whole"), cache)
    assert source.module is not None
    sizes = dict.fromkeys(size for size in (job.size, source.info.shape) if size is not None)
    failures: dict[str, list[str]] = {}
    for size in sizes:
        shape = (1, source.info.in_channels, *size)
        # `accepts` is quick but does not find every failure
        why = accepts(source.module, shape) and _eager_failure(source, shape)
        if why is None:
            return size
        failures.setdefault(why, []).append(f"{size[0]}x{size[1]}")
    because = [f"at {' and '.join(places)}: {why}" for why, places in failures.items()]
    raise ShapeError(
        "PyTorch does not run the model", code=Code.MODEL_SHAPE, because=because,
        so="give a size that the model takes with --size",
    )  # fmt: skip


def _eager_failure(source: Source, shape: tuple[int, int, int, int]) -> str | None:
    try:
        reference_of(source)(np.zeros(shape, np.float32))
    except Exception as error:  # the model's code may raise anything
        return f"{type(error).__name__}: {error}"
    return None


def _reason(error: SegcError) -> str:
    """The error and its first reasons, in a line."""
    because = list(error.details["because"])
    more = [f"and {len(because) - _REASONS} more reasons"] if len(because) > _REASONS else []
    return "; ".join([error.what, *because[:_REASONS], *more])


def prepare(_: str) -> None:
    """Import the packages that every job needs, once for all forks. If one is missing, the job reports that."""
    import onnxruntime
    import onnxscript
    import torch.onnx._internal.exporter._core  # noqa: F401

    from segc.frontend.mmseg_env import import_mmseg

    del onnxruntime, onnxscript
    import_mmseg()
    import mmseg.models  # noqa: F401


def handler() -> Callable[[Job], list[Cell]]:
    """See segc.isolation.child."""
    return run_job
