"""`segc.build`: build the engine of a bundle that was compiled with `--defer`, on a machine that can build it.

The new bundle replaces the old one only if its engine passes the parity gate against the outputs stored in the bundle.
It keeps the graph that it was built from, so that it can be built again on another machine.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from segc import ranges, targets
from segc.bundle.manifest import Manifest
from segc.bundle.report import read_report
from segc.bundle.status import Status
from segc.bundle.store import read_bundle, write_bundle
from segc.commands.compile import Bundle
from segc.compilation.report import Verified, of_build
from segc.compilation.settings import settings_of
from segc.compilation.setup import runtime_version
from segc.errors import Code, ParityError, UsageError
from segc.graph import ir
from segc.legality.report import refused_by_runtime
from segc.parity import metrics, stored_reference
from segc.parity.limits import Limits, combined
from segc.parity.ort_stand_in import stand_in
from segc.reporting.page import written
from segc.runtime.engine import Engine
from segc.suggestions import checked_keywords
from segc.targets.protocol import Session, Settings
from segc.targets.target import DeferredBuild, Target


@checked_keywords
def build(
    bundle: str | Path,
    *,
    max_error: float | None = None,
    min_agreement: float | None = None,
    options: Mapping[str, str] | None = None,
    threads: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> Bundle:
    """Build the engine of `bundle`, compare it with the stored outputs, and replace the bundle.

    options: the target's own, in place of those recorded, e.g. {"flavor": "enterprise"}. max_error, min_agreement:
    other limits than those it was compiled with. Raises BundleError (damaged), UsageError (nothing to build in it),
    MissingPackageError, LegalityError (the runtime refuses nodes), CompileError, ParityError; the bundle is as it was
    then.
    """
    ranges.THREADS.require("--threads", threads)
    path = Path(bundle)
    progress("checking the bundle's files")
    manifest = read_bundle(path)
    deferred, graph, settings = _deferred(manifest, options or {})
    plain = targets.get(manifest.target.name)
    target = plain.configure(plain, settings)
    runtime = runtime_version(target)
    with write_bundle(path, force=True) as staging:
        for name in manifest.files:
            (staging.directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path / name, staging.directory / name)
        progress(f"building the {target.name} engine")
        start = time.perf_counter()
        emitted = _finished(path, staging.directory, graph, target, deferred, settings)
        seconds = {"emit": time.perf_counter() - start}
        status = Status.of(target.cannot_run(settings), target.status_when_not_run)
        progress("comparing with the stored outputs")
        before = read_report(path)
        start, verified = time.perf_counter(), None
        if before["parity"] is not None:
            session = _session(staging.directory, graph, target, emitted.options, status, threads)
            asked = before["parity"]["limits"]
            limits = combined(Limits(asked["relative_error"], asked["agreement"]), max_error, min_agreement)
            verified = _verified(staging.directory / stored_reference.NAME, session, manifest, limits)
        seconds["verify"] = time.perf_counter() - start
        staging.report = report = of_build(before, target.name, status, seconds, verified)
        staging.page = written
        staging.manifest = replace(
            manifest,
            target=replace(manifest.target, runtime=runtime, options=emitted.options, settings=settings.options),
            files={},
        )
    return Bundle(path.resolve(), read_bundle(path), report)


def _deferred(manifest: Manifest, options: Mapping[str, str]) -> tuple[DeferredBuild, str, Settings]:
    """The target's deferred build, the name of its graph, and its settings. Raises UsageError if there is none."""
    target = targets.get(manifest.target.name)
    deferred = target.deferred_build
    graph = deferred.graph(manifest.target.options) if deferred is not None else None
    if deferred is None or graph is None:
        raise UsageError(
            "the bundle has nothing left to build",
            code=Code.NOTHING_TO_BUILD,
            because=f"it was compiled for {manifest.target.name} without --defer",
            so="segc compile --defer writes bundles that segc build finishes",
        )
    chosen = {**manifest.target.settings, **options, **deferred.finish_options}
    return deferred, graph, settings_of(target, manifest.precision, chosen)


def _finished(
    path: Path, directory: Path, graph: str, target: Target, deferred: DeferredBuild, settings: Settings
) -> targets.Emitted:
    """Write the engine into `directory`. graph: the file in the bundle that it is built from."""
    try:
        return deferred.finish(path, directory, settings)
    except targets.NodesRefused as error:
        refused = ir.from_model(onnx.load(path / graph))
        ir.infer_shapes(refused)
        raise refused_by_runtime(refused, target, error.refusals) from error


def _session(
    directory: Path, graph: str, target: Target, options: Mapping[str, Any], status: Status, threads: int
) -> Session:
    if status.ran:
        return target.load(directory, options, threads)
    return stand_in(onnx.load(directory / graph), threads)


def _verified(path: Path, session: Session, manifest: Manifest, limits: Limits) -> Verified:
    """Run the cases stored at `path`. Raises ParityError when one misses the limits."""
    engine = Engine(manifest, session)

    def run(x: np.ndarray) -> np.ndarray:
        return next(iter(engine.run(x).values()))

    verified = Verified(stored_reference.run_cases(path, run, manifest.output.threshold), limits)
    if verified.failures:
        raise ParityError(
            f"the {manifest.target.name} engine misses the parity limits; the bundle stays as it was",
            code=Code.PARITY_GATE,
            because=verified.failures,
            so=[*metrics.ADVICE[1:], "build it with another version of the runtime"],
        )
    return verified
