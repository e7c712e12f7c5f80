"""The steps from a loaded engine to a bundle: verify, publish."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from segc.bundle.canonical_json import canonical
from segc.bundle.evidence import EVIDENCE
from segc.bundle.manifest import Manifest
from segc.bundle.store import Staging, write_bundle
from segc.bundle.typed import encode
from segc.compilation import at_fault, file_gate, label_scores, manifest_builder, parity_gate
from segc.compilation.engine import Loaded
from segc.compilation.file_gate import FileCheck
from segc.compilation.lowering import DEQUANTIZE
from segc.compilation.report import Verified, of_compile
from segc.compilation.setup import Setup
from segc.errors import Code, FileError, ParityError
from segc.files.whole import write_whole
from segc.packaging.program import write_program
from segc.parity import metrics, sample_inputs, stored_reference
from segc.parity.limits import Limits, by_pixels, limits_of
from segc.reporting.page import written
from segc.runtime.engine import Engine
from segc.runtime.own_transforms import load_own


def verify(loaded: Loaded) -> Verified:
    """Compare the engine with its source on noise and on a photograph, unless the request forbids it.

    A missed limit does not raise here: `publish` refuses it. Raises CompileError if the engine fails.
    """
    made = loaded.planned
    setup, request, info = made.setup, made.setup.request, made.source.info
    limits = limits_of(setup.target.limits, request.precision, request.max_error, request.min_agreement)
    if manifest_builder.selects_by_top_k(made.graph):
        limits = by_pixels(limits)
        setup.journal.notes.add(
            "the model selects points by top-k, where rounding breaks ties: parity is judged by pixels"
        )
    if not request.verify:
        return Verified((), limits)
    from segc.parity import rounding

    with setup.journal.step(
        "verify", f"comparing with {'PyTorch' if made.source.module is not None else 'the source file'}"
    ):
        reference = _reference(loaded)
        run = parity_gate.guarded(loaded.session, setup.target.name)
        watched = label_scores.Watched(reference, info.threshold)
        engines = {
            made.shape: label_scores.Watched(
                parity_gate.masked(run, loaded.decode, info, made.shape, request.threads), info.threshold
            )
        }
        cases = parity_gate.cases(
            watched if request.calibration_labels else reference,
            lambda size: engines.get(size) or parity_gate.masked(run, loaded.decode, info, size, request.threads),
            made.graph, info, request, setup.settings.shape_range,
            rounding.measure(made.source, request.precision, images=request.input == "uint8"), limits.agreement,
            _see(loaded),
        )  # fmt: skip
        scores = _on_labels(loaded, watched, engines[made.shape])
    seen = reference.seen if isinstance(reference, stored_reference.Recorder) else ()
    return Verified(cases, limits, seen[: len(cases)], _on_files(loaded, limits), scores)


def _see(loaded: Loaded) -> Callable[[str, np.ndarray, np.ndarray, np.ndarray], None] | None:
    """What draws the cases for the bundle's page."""
    evidence, info = loaded.planned.setup.journal.evidence, loaded.planned.source.info
    return None if evidence is None else partial(evidence.see, info=info)


def _on_labels(
    loaded: Loaded, reference: label_scores.Watched, engine: label_scores.Watched
) -> label_scores.LabelScores | None:
    """Score the engine and the reference on the labelled images, where some were given."""
    setup, info = loaded.planned.setup, loaded.planned.source.info
    given = setup.settings.calibration
    if given is None or not given.labels:
        return None
    words = f"{setup.target.name} {setup.request.precision}"
    return label_scores.score(
        reference, engine, given.held_out, given.labels, info.classes, words, setup.request.max_drop
    )


def _on_files(loaded: Loaded, limits: Limits) -> FileCheck:
    """Compare `segment` with the source's own way from a file to a mask. Its notes go to the journal."""
    made, setup = loaded.planned, loaded.planned.setup
    own = made.source.on_files
    if own is None:
        return FileCheck()
    with setup.journal.step("verify", "comparing on a file"):
        how = _manifest(loaded)
        functions = load_own(how.preprocessing.chain, allowed=True, where=made.source.info.name)
        engine = Engine(how, _Guarded(loaded), setup.request.threads, functions)
        judged = replace(limits, agreement=0.0) if setup.request.precision == "int8" else limits  # not a real image
        from segc.parity import rounding

        bound = rounding.measure(made.source, setup.request.precision, images=False)
        found = file_gate.check(engine, own, judged, setup.journal.cache.own_mask, bound)
    setup.journal.notes.add(*found.notes)
    if setup.request.allow_file_difference:
        setup.journal.notes.add(*(f"--allow-file-difference: {line}" for line in found.failures))
    return found


class _Guarded:
    """The engine's session; what its runtime raises becomes a CompileError."""

    def __init__(self, loaded: Loaded) -> None:
        self.run = parity_gate.guarded(loaded.session, loaded.planned.setup.target.name)
        self.run_logits = getattr(loaded.session, "run_logits", None)


def _manifest(loaded: Loaded) -> Manifest:
    made, setup = loaded.planned, loaded.planned.setup
    return manifest_builder.manifest(
        made.source.info, made.graph, made.results, target=setup.target, runtime=setup.runtime, options=loaded.options,
        settings=setup.settings, output=setup.request.output or "logits", decode=loaded.decode,
        beside=loaded.beside, segments=loaded.segments,
    )  # fmt: skip


def staged(setup: Setup) -> AbstractContextManager[Staging]:
    """A folder for the bundle's files, which takes the place of `setup.out` when the block ends without an error."""
    return write_bundle(setup.out, force=setup.request.force)


def publish(staging: Staging, loaded: Loaded, verified: Verified) -> dict[str, Any]:
    """Complete the staged bundle: its report, which is returned, its manifest, what else the target puts into it.

    Raises ParityError when a limit is missed; the report then lies beside the destination.
    """
    made = loaded.planned
    setup = made.setup
    target, logits = setup.target, setup.request.output == "logits"
    if verified.seen:
        stored = staging.directory / stored_reference.NAME
        names = [case.name for case in verified.cases]
        stored_reference.write(stored, names, verified.seen, made.source.info.threshold, logits)
    for said in (manifest_builder.resize_note, manifest_builder.window_note):
        if (note := said(made.source.info, made.graph)) is not None:
            setup.journal.notes.add(note)
    if setup.journal.evidence is not None:
        found = setup.journal.evidence.finish(loaded)
        (staging.directory / EVIDENCE).write_bytes(canonical(encode(found)))
        staging.page = written
    staging.report = report = of_compile(loaded, verified)
    _require_parity(loaded, verified, report)
    staging.manifest = _manifest(loaded)
    target.write_extras(staging.directory, staging.manifest)
    if target.program is not None and not staging.manifest.segments:
        write_program(staging.directory, target.program)
    return report


def _reference(loaded: Loaded) -> Callable[[np.ndarray], np.ndarray]:
    """The reference function; a Recorder if the target stores reference outputs."""
    from segc.parity.reference import reference_of

    setup, info = loaded.planned.setup, loaded.planned.source.info
    reference = setup.journal.cache.reference(loaded.planned.source, reference_of(loaded.planned.source))
    if setup.request.input == "uint8":
        reference = sample_inputs.of_images(reference, info.mean, info.std, info.channel_order)
    return stored_reference.Recorder(reference) if setup.target.wants_reference else reference


def _plainer(loaded: Loaded) -> list[str]:
    """Options of the target that turn off passes which changed this graph and can be turned off."""
    made = loaded.planned
    changed = {name for name, result in made.results if result.changes}
    switches = [o for o in made.setup.target.options if "off" in o.choices and o.name in changed]
    return [f"{option.typed('off')} computes without the pass {option.name}, which rounds more" for option in switches]


def _require_parity(loaded: Loaded, verified: Verified, report: Mapping[str, Any]) -> None:
    """Keep the report of a compile that fails the gate beside the destination, and raise ParityError."""
    if not verified.failures:
        _require_equal_files(loaded, verified)
        return
    made, setup = loaded.planned, loaded.planned.setup
    floor = parity_gate.floor(
        made.source, made.graph, setup.request, setup.settings.shape_range, list(verified.cases), verified.limits
    )
    fault = at_fault.find(loaded, verified, _reference(loaded))
    kept: Path = setup.out.with_name(f"{setup.out.name}.parity-failed.json")
    with contextlib.suppress(FileError):  # the figures are in the message too; the error below matters more
        write_whole(kept, canonical(report), result=False)
    raise ParityError(
        f"the {setup.target.name} engine misses the parity limits; the bundle is not published",
        code=Code.PARITY_GATE,
        because=[*verified.failures, *([] if fault is None else [fault.words]), *floor],
        where=f"all figures: {kept}" if kept.is_file() else "",
        so=[
            *_plainer(loaded),
            *(metrics.ADVICE if fault is None else fault.advice),
            "--no-verify skips the gate",
            *([DEQUANTIZE] if made.source.info.quantized else []),
        ],
    )


def _require_equal_files(loaded: Loaded, verified: Verified) -> None:
    setup = loaded.planned.setup
    if not verified.files.failures or setup.request.allow_file_difference:
        return
    raise ParityError(
        "`segment` would differ from the source's own way from a file to a mask; the bundle is not published",
        code=Code.FILES_DIFFER,
        because=list(verified.files.failures),
        so="--allow-file-difference publishes it with a note",
    )
