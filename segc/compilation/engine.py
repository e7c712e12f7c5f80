"""The steps from a graph to a loaded engine: emit, load, and the choice of where masks are made."""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segc import targets
from segc.bundle.manifest import Decode
from segc.compilation import consumer_metadata, manifest_builder, mask_placement, parity_gate
from segc.compilation.lowering import HOST, Exported, Masks, Planned, count_ops, lower, plan
from segc.compilation.setup import runtime_version
from segc.graph import ir
from segc.hybrid import split
from segc.hybrid.emit import emit as emit_segments
from segc.isolation.session import IsolatedSession
from segc.legality.report import refused_by_runtime
from segc.parity.ort_stand_in import stand_in
from segc.passes.masks.strip_final_resize import StripFinalResize

if TYPE_CHECKING:
    import onnx

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Emitted:
    """An engine's files in `directory`. model: the graph that they were made from. options: for the target's `load`.

    segments: those of a hybrid, as in the manifest. beside: an engine for masks gives logits too.
    """

    planned: Planned
    directory: Path
    model: onnx.ModelProto
    options: Mapping[str, Any]
    segments: Sequence[Mapping[str, Any]]
    beside: targets.LogitsBeside | None


@dataclass(frozen=True)
class Loaded:
    """A loaded engine. ops: how often each op occurs in the model that it was made from. logits: see Emitted.beside."""

    planned: Planned
    directory: Path
    options: Mapping[str, Any]
    segments: Sequence[Mapping[str, Any]]
    ops: Counter[str]
    session: targets.Session
    logits: targets.LogitsBeside | None = None

    @property
    def decode(self) -> Decode | None:
        """What segc's runtime does with the engine's logits; None if the engine's output is the bundle's output."""
        if self.planned.masks != "host":
            return None
        changed = {name for name, result in self.planned.results if result.changes}
        return Decode(resize=StripFinalResize.name in changed)

    @property
    def beside(self) -> Decode | None:
        """How the mask of `segment` is made of the logits that an engine for masks gives too; None if it gives none."""
        made = self.planned
        if self.logits is None or not made.setup.status.ran or made.masks != "graph":
            return None
        same = not self.logits.resize or self.logits.align_corners == made.source.info.align_corners
        return Decode(resize=self.logits.resize) if same else None

    def hybrid(self) -> dict[str, Any] | None:
        """The report's entry about a graph that two runtimes share; None if one runs it all."""
        made = self.planned
        return None if made.plan is None else split.plan_summary(made.graph, made.setup.target, made.plan)


def emit(planned: Planned, directory: Path) -> Emitted:
    """Write the engine, or the segments of a plan, into `directory`. Raises LegalityError, CompileError."""
    setup, graph = planned.setup, planned.graph
    target = setup.target
    options: Mapping[str, Any] = {}
    segments: Sequence[Mapping[str, Any]] = ()
    beside: targets.LogitsBeside | None = None
    with setup.journal.step("emit", f"writing the {target.name} engine"):
        model = ir.to_model(graph, functions=False, origins=target.source_info)
        try:
            if planned.plan is None:
                size = manifest_builder.image_shape(graph)[2:]
                images = setup.request.input == "uint8"
                metadata = consumer_metadata.of(planned.source.info, size, images=images)
                made = target.emit(model, directory, replace(setup.settings, metadata=metadata))
                options, beside = made.options, made.beside
            else:
                versions = {HOST: runtime_version(targets.get(HOST)), target.name: setup.runtime}
                segments = emit_segments(graph, planned.plan, directory, setup.settings, versions)
        except targets.NodesRefused as error:
            raise refused_by_runtime(graph, target, error.refusals) from error
        if setup.request.keep_onnx:
            kept = ir.to_model(graph, origins=True)
            (directory / "final.onnx").write_bytes(kept.SerializeToString(deterministic=True))
    return Emitted(planned, directory, model, options, segments, beside)


def load_engine(emitted: Emitted) -> Loaded:
    """Load the emitted engine. If it cannot run on this machine, load the graph it was made from in ONNX Runtime."""
    with emitted.planned.setup.journal.step("load", "loading the engine"):
        session = _session(emitted)
    ops = count_ops(emitted.model)
    planned, options = emitted.planned, emitted.options
    return Loaded(planned, emitted.directory, options, emitted.segments, ops, session, emitted.beside)


def build_engine(exported: Exported, directory: Path) -> Loaded:
    """Lower, plan, emit and load.

    With decode="auto", build the engine for host masks first, measure, and rebuild it if the graph makes them faster.
    """
    if exported.setup.request.output != "mask" or exported.setup.request.decode != "auto":
        return _built(exported, directory)
    again = exported.copy()  # lowering uses a model up
    loaded = _built(exported, directory, "host")
    if faster_masks(loaded) == "host":
        return loaded
    _log.info("building the engine again, with the masks in its graph")
    again = replace(again, source=loaded.planned.source)  # with the head that the first lowering found
    del loaded
    for path in directory.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return _built(again, directory, "graph")


def faster_masks(loaded: Loaded) -> Masks:
    """Measure where masks are made faster, on the logits of the photograph, and add a note with the result."""
    setup = loaded.planned.setup
    journal = setup.journal
    if not setup.status.ran:
        journal.notes.add("mask placements cannot be timed on this machine: the graph makes the mask")
        return "graph"
    info, shape = loaded.planned.source.info, loaded.planned.shape
    with journal.step("decode", "timing both mask placements"):
        _, x = list(parity_gate.inputs((info.batch, info.in_channels, *shape), info, setup.request))[-1]
        logits = parity_gate.guarded(loaded.session, setup.target.name)(x)
        size = shape if loaded.decode is not None and loaded.decode.resize else (logits.shape[2], logits.shape[3])
        tail = mask_placement.Tail(size, info.align_corners, info.threshold)
        choice = mask_placement.measure(tail, logits, setup.target, setup.settings, setup.request.threads)
    journal.masks = choice.figures()
    where = "by segc's runtime" if choice.placement == "host" else "in the graph"
    journal.notes.add(f"masks are made {where}, which is faster on this machine")
    return choice.placement


def _built(exported: Exported, directory: Path, masks: Masks | None = None) -> Loaded:
    planned = plan(lower(exported, masks=masks))
    return load_engine(emit(planned, directory))


def _session(emitted: Emitted) -> targets.Session:
    planned, directory, options = emitted.planned, emitted.directory, emitted.options
    target, threads = planned.setup.target, planned.setup.request.threads
    stands_in = not planned.setup.status.ran
    if planned.plan is not None:
        return split.session_of(
            planned.graph, planned.plan, directory, emitted.segments, threads, stand_ins=stands_in
        )  # fmt: skip
    if stands_in:
        _log.info("ONNX Runtime stands in for %s, which cannot run on this machine", target.name)
        return stand_in(emitted.model, threads)
    if target.isolated:
        return IsolatedSession(target.name, directory, options, threads)
    return target.load(directory, options, threads)
