"""`segc.optimize`: run chosen passes, or a target's standard pipeline, on any ONNX file. `segc opt` calls it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import onnx_graphsurgeon as gs

from segc import ranges, targets
from segc.commands.optimize_check import NO_RANK, Given, Judged, Sizes, given, judge, require_runnable, require_same
from segc.compilation.guarded import guarded_libraries
from segc.errors import Code, SourceError, UsageError
from segc.graph import external_weights, ir, libraries
from segc.graph.invariants import CLEANED, INVARIANTS, SINGLE
from segc.graph.raise_opset import raise_opset
from segc.passes.base import Pass, PassResult
from segc.passes.inputs.specialize_shapes import SpecializeShapes
from segc.passes.support.newer_opsets import lower_newer
from segc.pipeline import hooks, stages
from segc.pipeline.buckets import specialize
from segc.pipeline.pass_spec import parse
from segc.pipeline.pipeline import Entry, Hook, Pipeline, PipelineError
from segc.suggestions import checked_keywords


@dataclass(frozen=True)
class Step:
    """What one pass did. seconds: the pass and the clean-up after it, without hooks. stage: "" for chosen passes."""

    name: str
    result: PassResult
    seconds: float
    nodes_before: int
    nodes_after: int
    error: float | None = None  # with check: relative error of the outputs, where they could be compared
    stage: str = ""


@dataclass
class Optimized:
    """The steps, the graph and the files written. written: the opset and the measured error of each file."""

    graph: gs.Graph
    steps: list[Step]
    nodes_before: int
    files: list[Path] = field(default_factory=list)
    written: list[Judged] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@checked_keywords
def optimize(
    source: str | Path,
    passes: Sequence[Pass | str] = (),
    *,
    target: str | None = None,
    shape: tuple[int, int] | None = None,
    batch: int | None = None,
    out: str | Path | None = None,
    force: bool = False,
    check: bool = False,
    tolerance: float | None = None,
    dump_ir: str | Path | None = None,
    stop_after: int | None = None,
    embed: int = external_weights.EMBED,
    buckets: Sequence[tuple[int, int]] = (),
    memory_limit: float | None = None,
    time_limit: float | None = None,
) -> Optimized:
    """Run passes on an ONNX file and write the result.

    passes: Pass objects or their text, "fold-constants:size_limit=0"; none of them: the clean-up that every target
    shares. target: its standard pipeline instead, specialized when `shape` (height, width in pixels) is given. check:
    after each pass ONNX's rules and, in ONNX Runtime, the numbers, which may differ by `tolerance` relative to the
    largest (default: 1e-5, or 20 times what rounding of the inputs does). dump_ir: folder for the graph as text after
    each pass that changed it. stop_after: how many passes to run. embed: bytes of weights up to which they are written
    into the file itself. buckets: sizes (height, width) to specialize the result to, one file each: OUT-HxW.onnx; the
    image input must leave both open. A model of an opset below 17 becomes one of 17, and for a target one of
    a newer opset than the target's becomes one of that. What was written is read back, checked at the opset it
    declares, and compared with the file as given before it gets its name, where ONNX Runtime runs that. memory_limit
    (GiB), time_limit (seconds): of libraries that look at the file. Raises SegcError; nothing is written then.
    """
    _require_numbers(tolerance, embed, stop_after)
    files = _files(out, buckets)
    pipeline = build(passes, target=target, shape=shape, batch=batch)
    for file in files:
        external_weights.require_free(file, force=force)
    with guarded_libraries(source, memory_limit, time_limit):
        graph = read(Path(source))
        reference = given(Path(source), graph, _sizes(pipeline, shape, batch)) if check or files else None
        if reference is not None and check:
            require_runnable(reference)
        notes = raise_opset(graph)
        if target is not None:
            notes += lower_newer(graph, targets.get(target).opset)
        if reference is not None and notes:
            require_same(graph, reference, tolerance)
        _require_assumed(pipeline, graph)
        count = len(graph.nodes)
        found = _Hooks(pipeline, reference if check else None, tolerance, dump_ir, stop_after)
        try:
            results = pipeline.run(graph, found.all)
        except ValueError as error:
            raise UsageError("a pass refuses this graph", code=Code.PASS_REFUSES, because=str(error)) from error
        outcome = Optimized(graph, found.steps(results), count, notes=notes)
        if reference is not None and files:
            exact = not any(SINGLE in step.invalidates for step in pipeline.passes)
            judge_as = partial(judge, reference=reference, tolerance=tolerance, exact=exact)
            write = partial(external_weights.staged_graph, embed=embed, force=force)
            _write(dict(zip(files, _specialized(graph, buckets, batch), strict=True)), write, judge_as, outcome)
        return outcome


def _write(
    graphs: Mapping[Path, gs.Graph],
    write: Callable[[gs.Graph, Path], AbstractContextManager[external_weights.Staged]],
    judge_as: Callable[[Path, Path, gs.Graph], Judged],
    outcome: Optimized,
) -> None:
    """Write all files under temporary names, judge all, and only then rename them."""
    with ExitStack() as stack:
        written = []
        for file, graph in graphs.items():
            written.append(stack.enter_context(write(graph, file)))
            outcome.written.append(judge_as(written[-1].model, file, graph))
        outcome.notes += [judged.note for judged in outcome.written if judged.note]
        for staged in written:
            outcome.files += staged.publish()
            outcome.notes += staged.notes


def _require_assumed(pipeline: Pipeline, graph: gs.Graph) -> None:
    """Refuse a file that violates a requirement that no earlier pass ensures. Raises UsageError."""
    for name in sorted(pipeline.assumed - CLEANED):
        invariant = INVARIANTS.get(name)
        if invariant is None or invariant.settled or (why := invariant(graph)) is None:
            continue
        steps = [step.name for step in pipeline.passes if name in step.requires]
        raise UsageError(
            f"{' and '.join(dict.fromkeys(steps))} requires '{name}'", code=Code.PASS_ORDER, because=why,
            so="put a pass before it that ensures this: `segc passes` lists them",
        )  # fmt: skip


def _require_numbers(tolerance: float | None, embed: int, stop_after: int | None) -> None:
    """Raise UsageError for a number out of range."""
    for name, value in (("--tolerance", tolerance), ("--embed", embed)):
        if value is not None:
            ranges.LIMIT.require(name, value)
    if stop_after is not None and stop_after < 1:
        raise UsageError(
            f"cannot stop after {stop_after} passes", code=Code.INVALID_NUMBER, because="at least one must run"
        )


def _files(out: str | Path | None, buckets: Sequence[tuple[int, int]]) -> list[Path]:
    """The file to write, or one for each bucket; none without `out`. Raises UsageError for buckets without `out`."""
    if out is None:
        if buckets:
            raise UsageError(
                "buckets need a file to write to",
                code=Code.CONFLICTING_OPTIONS,
                so="-o OUT.onnx; the files become OUT-HxW.onnx",
            )
        return []
    out = Path(out)
    return [out.with_name(f"{out.stem}-{h}x{w}{out.suffix}") for h, w in buckets] or [out]


def _specialized(graph: gs.Graph, buckets: Sequence[tuple[int, int]], batch: int | None) -> list[gs.Graph]:
    """The graph itself, or one for each bucket, cleaned up; they share the weights."""
    try:
        made = specialize(graph, [(batch, *size) for size in buckets])
    except ValueError as error:
        raise UsageError(
            "the graph cannot be specialized",
            code=Code.PASS_REFUSES,
            because=str(error),
            so="export the file with free height and width",
        ) from error
    for each in made:
        stages.shared().run(each)
    return made or [graph]


def build(
    passes: Sequence[Pass | str] = (),
    *,
    target: str | None = None,
    shape: tuple[int, int] | None = None,
    batch: int | None = None,
) -> Pipeline:
    """The pipeline that these arguments of `optimize` select. Raises UsageError."""
    if target is not None and passes:
        raise UsageError(
            "passes and a target exclude each other",
            code=Code.CONFLICTING_OPTIONS,
            because="a target brings its own pipeline",
        )
    try:
        if target is not None:
            return stages.standard(targets.get(target), shape=None if shape is None else (batch or 1, *shape))
        if passes:
            return stages.chosen("the given passes", [p if isinstance(p, Pass) else parse(p) for p in passes])
        return stages.shared()
    except PipelineError as error:
        raise UsageError(
            "the passes cannot run in this order",
            code=Code.PASS_ORDER,
            because=str(error),
            so="`segc passes` lists what each requires",
        ) from error


def read(path: Path) -> gs.Graph:
    """A valid graph with types and shapes; external weights stay in their file. Raises FileError or SourceError."""
    graph = external_weights.read_graph(path)
    try:
        ir.cleanup(graph)
        ir.infer_shapes(graph)
        libraries.check_model(ir.checkable_model(graph))
    except (*libraries.CHECK_ERRORS, ValueError) as error:
        because = (str(error).splitlines() or [type(error).__name__])[0]
        if because != NO_RANK:
            raise SourceError(
                f"'{path}' is not a valid ONNX model", code=Code.NOT_ONNX, because=because, so="export it again"
            ) from error
    return graph


class _Hooks:
    """The hooks of a run, in this order: timing, text dump, checks, stop."""

    def __init__(
        self, pipeline: Pipeline, reference: Given | None, tolerance: float | None,
        dump_ir: str | Path | None, stop_after: int | None,
    ) -> None:  # fmt: skip
        self.watch = _Watch()
        self.numbers: hooks.CheckNumerics | None = None
        self.all: list[Hook] = [self.watch]
        if dump_ir is not None:
            self.all.append(hooks.DumpIR(Path(dump_ir)))
        if reference is not None:
            self.numbers = hooks.CheckNumerics(reference.feeds, tolerance)
            self.all += [hooks.CheckGraph(), hooks.CheckInvariants(pipeline), self.numbers]
        self.all.append(_Settle(self.watch))
        if stop_after is not None:
            self.all.append(hooks.StopAfter(stop_after))

    def steps(self, results: Sequence[PassResult]) -> list[Step]:
        """One for each pass that ran."""
        errors = self.numbers.figures if self.numbers is not None else {}
        return [
            Step(entry.step.name, result, seconds, before, after, errors.get(entry.index), entry.stage)
            for (entry, seconds, before, after), result in zip(self.watch.rows, results, strict=True)
        ]


@dataclass
class _Watch(hooks.Silent):
    """Records each pass with its seconds and its node counts before and after."""

    rows: list[tuple[Entry, float, int, int]] = field(default_factory=list)
    start: float = 0.0
    count: int = 0

    def before(self, entry: Entry, graph: gs.Graph) -> None:
        """Count."""
        self.count = len(graph.nodes)

    def after(self, entry: Entry, graph: gs.Graph, result: PassResult) -> None:
        """Count again, and stop the clock."""
        self.rows.append((entry, time.perf_counter() - self.start, self.count, len(graph.nodes)))


@dataclass
class _Settle(hooks.Silent):
    """Starts the clock. It comes last, so that the other hooks are not timed."""

    watch: _Watch

    def before(self, entry: Entry, graph: gs.Graph) -> None:
        """Start the clock."""
        self.watch.start = time.perf_counter()


def _sizes(pipeline: Pipeline, shape: tuple[int, int] | None, batch: int | None) -> Sizes:
    """The given sizes, overridden by those that a pass specializes to."""
    for step in pipeline.passes:
        if isinstance(step, SpecializeShapes):
            batch = step.batch or batch
            shape = (step.height, step.width) if step.height and step.width else shape
    return Sizes(shape, batch)
