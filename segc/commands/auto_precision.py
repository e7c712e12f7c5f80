"""`segc compile --precision auto`: compile in each precision, and publish the fastest that keeps the limits.

Of engines that are as fast as each other, it takes the one that rounds least. float32 keeps the limits, or the compile
fails. int8 needs images to calibrate with. float16 is not tried: CPUs compute in float32 then. Engines are timed on
this machine, in turns.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segc import targets
from segc.bundle.store import write_bundle
from segc.commands.bench import SPIN
from segc.compilation.request import Request
from segc.errors import Code, SegcError, UsageError
from segc.reporting.page import written
from segc.runtime.engine import load

if TYPE_CHECKING:
    from segc.commands.compile import Bundle
    from segc.compilation.setup import Progress

PRECISION = "auto"
TRIED = ("int8", "bf16", "fp32")  # from the coarsest on
NOISE = 1.05  # times of engines that are closer than this say nothing
ROUNDS = 7
REFUSALS = frozenset({Code.PARITY_GATE, Code.UNSUPPORTED_BY_MODEL})  # of a precision, not of the model


@dataclass(frozen=True)
class Tried:
    """What became of a precision: a bundle with its time in milliseconds, or the reason why there is none."""

    precision: str
    bundle: Bundle | None = None
    milliseconds: float | None = None
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"precision": self.precision, "milliseconds": self.milliseconds, "reason": self.reason}


def compile_fastest(
    request: Request, out: Path, compiled: Callable[[Request], Bundle], progress: Progress
) -> dict[str, Any]:  # fmt: skip
    """Compile in every precision, publish the fastest as `out`, and return its report. compiled: compiles one request.

    Raises UsageError without fixed sizes or for an engine that does not run here, and what float32 raises.
    """
    target = targets.get(request.target)
    if request.dynamic:
        raise UsageError(
            "--precision auto and --dynamic exclude each other", code=Code.CONFLICTING_OPTIONS,
            because="engines are timed at one size", so="give --shape, or a precision",
        )  # fmt: skip
    offered = [name for name in TRIED if name in target.precisions and (name != "int8" or request.calibration)]
    with write_bundle(out, force=request.force) as staging, tempfile.TemporaryDirectory(prefix="segc-") as folder:
        tried = [_tried(_asked(request, name, Path(folder)), compiled, progress) for name in offered]
        timed = _timed(tried, request.threads)
        fastest = _chosen(timed)
        assert fastest.bundle is not None
        shutil.copytree(fastest.bundle.path, staging.directory, dirs_exist_ok=True)
        said = f"{fastest.precision} is the fastest that keeps the limits: {'; '.join(map(_words, timed))}"
        staging.manifest, staging.page = fastest.bundle.manifest, written
        staging.report = report = {
            **fastest.bundle.report, "notes": [*fastest.bundle.report["notes"], said],
            "auto": [one.to_json() for one in timed],
        }  # fmt: skip
    return report


def _asked(request: Request, precision: str, folder: Path) -> Request:
    """The request for one precision, with a bundle in a folder of its own."""
    images = request.calibration if precision == "int8" or request.calibration_labels is not None else None
    return replace(request, precision=precision, out=folder / precision, calibration=images)


def _tried(asked: Request, compiled: Callable[[Request], Bundle], progress: Progress) -> Tried:
    """Compile, and keep the reason where a precision other than float32 misses its limits."""
    progress(f"trying {asked.precision}")
    try:
        bundle = compiled(asked)
    except SegcError as error:
        if asked.precision == "fp32" or error.code not in REFUSALS:
            raise
        return Tried(asked.precision, reason=(error.details["because"] or [str(error)])[0])
    if bundle.report["status"] != "ok":
        if asked.precision == "fp32":
            raise UsageError(
                f"--precision auto cannot time {asked.target} engines here", code=Code.UNSUPPORTED_BY_TARGET,
                because=bundle.report["status"], so="name a precision",
            )  # fmt: skip
        return Tried(asked.precision, reason=bundle.report["status"])
    return Tried(asked.precision, bundle)


def _timed(tried: list[Tried], threads: int) -> list[Tried]:
    """Median milliseconds of the engines on noise, in turns."""
    engines = {one.precision: load(one.bundle.path, threads=threads) for one in tried if one.bundle is not None}
    times: dict[str, list[float]] = {name: [] for name in engines}
    rng = np.random.default_rng(0)
    inputs = {}
    for name, engine in engines.items():
        given = engine.manifest.input
        shape = tuple(side or 1 for side in given.shape)
        x = rng.integers(0, 256, shape) if given.dtype == "uint8" else rng.normal(size=shape)
        inputs[name] = x.astype(given.dtype)
    for turn in range(ROUNDS + 1):
        for name, engine in engines.items():
            time.sleep(SPIN)
            start = time.perf_counter()
            engine.run(inputs[name])
            if turn:  # the first warms up
                times[name].append(1e3 * (time.perf_counter() - start))
    medians = {name: statistics.median(found) for name, found in times.items()}
    return [replace(one, milliseconds=medians.get(one.precision)) for one in tried]


def _chosen(timed: list[Tried]) -> Tried:
    """The fastest; of those that are as fast but for noise, the one that rounds least."""
    made = [(one.milliseconds or 0.0, one) for one in timed if one.bundle is not None]
    limit = NOISE * min(milliseconds for milliseconds, _ in made)
    return [one for milliseconds, one in made if milliseconds <= limit][-1]


def _words(one: Tried) -> str:
    return f"{one.precision} {one.reason}" if one.milliseconds is None else f"{one.precision} {one.milliseconds:.1f} ms"
