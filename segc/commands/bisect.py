"""`segc.bisect`: the pass, the nodes, or the part of the runtime's work that makes an engine wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx

from segc import ranges
from segc.compilation import mask_placement, parity_gate, steps
from segc.compilation.lowering import Lowered, Planned
from segc.compilation.request import Request
from segc.compilation.setup import Progress
from segc.diagnosis import kept, states
from segc.diagnosis.runtime_part import Engine, Found, RuntimePart
from segc.diagnosis.states import State, States
from segc.errors import LegalityError, ParityError, SegcError
from segc.frontend.model import ModelInfo
from segc.frontend.named import stem
from segc.parity import metrics, sample_inputs
from segc.parity.bisect import Fault
from segc.parity.limits import Limits, by_pixels, limits_of
from segc.parity.reference import reference_of
from segc.suggestions import checked_keywords

Stage = Literal["nothing", "trace", "pass", "table", "runtime"]
Array = np.ndarray


@dataclass(frozen=True)
class Bisection:
    """Where an engine comes to differ from its source.

    stage: "trace", what torch exported; "pass", a pass of segc; "table", the target's table refuses nodes; "runtime",
    the target's own; "nothing", everything is right. words: what is at fault, in sentences. ruled_out: what is not.
    nodes: those at fault, each with op, name and torch line. error: relative, None without comparable numbers.
    folder: the part as ONNX file, with its inputs and a script that shows the difference; None where there is none.
    """

    source: str
    target: str
    stage: Stage
    words: tuple[str, ...] = ()
    ruled_out: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    error: float | None = None
    folder: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "folder": None if self.folder is None else str(self.folder)}


@checked_keywords
def bisect(
    request: Request, *, out: str | Path | None = None, seconds: float = 300.0, progress: Progress = lambda _: None
) -> Bisection:
    """Find what makes the engine of a request differ from its source, fail, hang, or be refused.

    The lowered graph is compared with the source after the trace and after the passes, in ONNX Runtime; then the engine
    in the target's own runtime, in child processes. What is wrong is narrowed down to a pass and its nodes, or to the
    smallest part of the graph that the runtime computes wrongly.

    request: as for `compile_targets`. out: the folder for the part that is wrong, by default NAME-TARGET.bisect.
    seconds: for the search in the runtime; what was found until then is kept. progress: called with what is ruled out.
    Raises SegcError if the source cannot be opened or traced, FileError if the folder is taken.
    """
    ranges.SECONDS.require("--seconds", seconds)
    folder = Path(f"{stem(request.source)}-{request.target}.bisect" if out is None else out)
    kept.require_free(folder)
    search = _Search(replace(request, check=False, dump_ir=None), folder, time.monotonic() + seconds, progress)
    try:
        return search.result()
    except KeyboardInterrupt:
        search.keep_so_far()
        raise


class _Search:
    """found: what a search that is stopped leaves behind."""

    def __init__(self, request: Request, folder: Path, end: float, progress: Progress) -> None:
        self._setup = steps.set_up(request, steps.Journal(progress))
        self._folder, self._end, self._progress = folder, end, progress
        self._ruled_out: list[str] = []
        self._found: Found | None = None
        self._part: RuntimePart | None = None

    def result(self) -> Bisection:
        """Search, and write what was found."""
        with steps.guarded(self._setup):
            exported = steps.export(steps.open_source(self._setup))
            watching = States()
            try:
                lowered = steps.lower(exported, watching=[watching])
            except SegcError as error:
                return self._failed_pass(watching, error)
            except Exception as error:  # of a pass: any
                if watching.running is None:
                    raise
                return self._failed_pass(watching, error)
            judge = _Judge(lowered)
            for name, x in judge.inputs():
                case = judge.prepared(name, x)
                found = self._in_graph(case, watching.found) or self._in_engine(case, lowered)
                if found is not None:
                    return found
        return self._answer("nothing", ["nothing differs by more than the limits"])

    def keep_so_far(self) -> None:
        """Write the smallest part that was found wrong until now."""
        if self._found is not None and self._part is not None:
            self._of_runtime(self._found, stopped=True)

    # --- the graph, in ONNX Runtime ---

    def _failed_pass(self, watching: States, error: Exception) -> Bisection:
        """A pass raised, or the graph that the passes left is refused."""
        if watching.running is None:
            raise error
        return self._answer("pass", [f"{watching.running} fails: {error}"])

    def _in_graph(self, case: _Prepared, found: list[State]) -> Bisection | None:
        self._progress(f"{case.name}: the traced graph in ONNX Runtime")
        if why := case.why_wrong(found[0]):
            return self._answer(
                "trace", [f"the traced graph differs from the source before any pass: {why}"], error=case.error
            )
        self._rule_out(f"{case.name}: the traced graph is right ({case.figures})")
        if len(found) == 1:
            return None
        self._progress(f"{case.name}: the graph after all passes")
        if case.why_wrong(found[-1]) is None:
            self._rule_out(f"{case.name}: after all passes the graph is right in ONNX Runtime ({case.figures})")
            return None
        at = states.first_wrong(found, lambda state: case.why_wrong(state) is not None, self._progress)
        why = case.why_wrong(found[at])
        self._rule_out(f"the passes before {found[at].entry}")
        return self._of_pass(found[at - 1], found[at], case, str(why))

    def _of_pass(self, before: State, after: State, case: _Prepared, why: str) -> Bisection:
        said = [f"{after.entry} changes the numbers: {why}"]
        assert after.entry is not None
        try:
            region = states.region(before, after, case.feeds)
        except states.CannotRun as error:
            return self._answer("pass", [*said, f"ONNX Runtime does not run the graph after it: {error}"])
        if region is None:
            return self._answer("pass", [*said, "no tensor is in the graph before and after it that differs"])
        said.append(f"the first wrong tensor is '{region.value}', relative error {region.error:.2e}")
        files = kept.of_pass(after.entry.step.name, region.before, region.after, region.inputs, region.expected)
        nodes = tuple(map(str, region.nodes))
        return self._answer("pass", said, files, nodes=nodes, error=_finite(region.error))

    # --- the engine, in the target's runtime ---

    def _in_engine(self, case: _Prepared, lowered: Lowered) -> Bisection | None:
        setup = lowered.setup
        try:
            planned = steps.plan(lowered)
        except LegalityError as error:
            return self._of_table(error)
        if not setup.status.ran:
            self._rule_out(f"{setup.target.name} does not run on this machine: its runtime was not tried")
            return None
        self._part = part = RuntimePart(planned, self._end)
        for engine in part.engines(case.x):
            self._progress(" ".join(filter(None, (case.name, "in", setup.target.name, engine.where))))
            found = self._in_runtime(engine, case, planned, part)
            if found is not None:
                return found
        self._rule_out(f"{case.name}: the engine is right in {setup.target.name}")
        return None

    def _in_runtime(self, engine: Engine, case: _Prepared, planned: Planned, part: RuntimePart) -> Bisection | None:
        answer = part.run(engine)
        if isinstance(answer, Fault):
            fault: Fault | None = answer
        elif planned.plan is None:
            fault = None if (why := case.why_differs(answer)) is None else Fault("wrong", words=(why,))
        else:
            fault = part.fault(engine)
        if fault is None:
            return None
        self._progress(f"{self._setup.target.name}: {fault}; looking for the smallest part")
        found = part.search(engine, refusals=fault.kind == "refusal", progress=self._progress, keep=self._keep)
        if found is None:
            said = f"{_fault_text(self._setup.target.name, fault)}; no value is wrong by more than {part.limit:.0e}"
            return self._answer("runtime", [said, *fault.words], error=case.error)
        return self._of_runtime(found)

    def _keep(self, found: Found) -> None:
        self._found = found

    def _of_runtime(self, found: Found, *, stopped: bool = False) -> Bisection:
        assert self._part is not None
        setup, pattern = self._setup, found.pattern
        words = [
            f"{' '.join(filter(None, (setup.target.name, setup.runtime)))}: {pattern.words}",
            *([found.where] if found.where else []),
            *pattern.fault.words,
            *(["the search was stopped: the part may be smaller"] if stopped else []),
        ]
        settings = replace(setup.settings, threads=self._part.threads)
        files = kept.of_runtime(pattern, setup.target.name, settings, self._part.limit)
        nodes = found.nodes if pattern.alone else found.nodes[-1:]
        return self._answer("runtime", words, files, nodes=tuple(map(str, nodes)), error=_finite(pattern.error))

    def _of_table(self, error: LegalityError) -> Bisection:
        words = [error.what, *error.details["because"]]
        return self._answer("table", words, nodes=tuple(error.details["from"]))

    # --- what is said ---

    def _rule_out(self, words: str) -> None:
        self._ruled_out.append(words)
        self._progress(words)

    def _answer(
        self, stage: Stage, words: list[str], files: Mapping[str, bytes] | None = None, *, nodes: tuple[str, ...] = (),
        error: float | None = None,
    ) -> Bisection:  # fmt: skip
        folder = None if files is None else self._folder
        request = self._setup.request
        found = Bisection(
            str(request.source), request.target, stage, tuple(words), tuple(dict.fromkeys(self._ruled_out)), nodes,
            error, folder,
        )  # fmt: skip
        if files is not None:
            kept.write(self._folder, files, found.to_json())
        return found


def _fault_text(target: str, fault: Fault) -> str:
    return f"the {target} engine {'differs' if fault.kind == 'wrong' else 'fails: ' + str(fault)}"


def _finite(error: float) -> float | None:
    return error if np.isfinite(error) else None


@dataclass(frozen=True)
class _Judge:
    """Compares outputs of a lowered graph with those of its source."""

    lowered: Lowered

    def inputs(self) -> list[tuple[str, Array]]:
        """Those of the parity gate."""
        made, setup = self.lowered, self.lowered.setup
        given = parity_gate.all_inputs(made.graph, made.source.info, setup.request, setup.settings.shape_range)
        return [(metrics.title(name, x), x) for name, x in given]

    def prepared(self, name: str, x: Array) -> _Prepared:
        """An input with the reference's output."""
        made, request = self.lowered, self.lowered.setup.request
        info, reference = made.source.info, reference_of(made.source)
        planes = x
        if request.input == "uint8":
            planes = sample_inputs.normalised(x, info.mean, info.std, info.channel_order)
        limits = limits_of(made.setup.target.limits, request.precision, request.max_error, request.min_agreement)
        if any(node.op == "TopK" for node in made.graph.nodes):
            limits = by_pixels(limits)
        return _Prepared(name, x, planes, reference(planes), info, limits, request.threads, self._rounding())

    def _rounding(self) -> Callable[[Array], float | None] | None:
        from segc.parity import rounding

        request = self.lowered.setup.request
        return rounding.measure(self.lowered.source, request.precision, images=request.input == "uint8")


@dataclass
class _Prepared:
    """An input, as the engine takes it and in float32, and the source's logits. error: of the last comparison."""

    name: str
    x: Array
    planes: Array
    wanted: Array
    info: ModelInfo
    limits: Limits
    threads: int
    rounding: Callable[[Array], float | None] | None
    error: float | None = None
    figures: str = ""

    def feeds(self, model: onnx.ModelProto) -> dict[str, Array]:
        """The input of a state: an image where the state takes images."""
        given = model.graph.input[0]
        images = given.type.tensor_type.elem_type == onnx.TensorProto.UINT8
        return {given.name: self.x if images else self.planes}

    def why_wrong(self, state: State) -> str | None:
        """A sentence if a state misses the limits, or cannot be run."""
        try:
            output = next(iter(state.snapshot.run(self.feeds(state.snapshot.model)).values()))
        except states.CannotRun as error:
            return f"ONNX Runtime cannot run the graph: {error}"
        return self.why_differs(output)

    def why_differs(self, output: Array) -> str | None:
        """A sentence if an output misses the limits. Logits of another size are resized to a mask."""
        if output.ndim == 4 and output.shape != self.wanted.shape:
            size = (self.wanted.shape[2], self.wanted.shape[3])
            tail = mask_placement.Tail(size, self.info.align_corners, self.info.threshold)
            output = tail.on_host(np.ascontiguousarray(output, np.float32), self.threads)
        try:
            case = metrics.compare(self.name, self.wanted, output, self.info.threshold)
            if self.rounding is not None and case.agreement < self.limits.agreement:
                bound = self.rounding(self.x)
                case = metrics.compare(self.name, self.wanted, output, self.info.threshold, rounding=bound)
        except ParityError as error:
            return error.what
        self.error = case.relative_error
        logits = "" if case.relative_error is None else f"relative logit error {case.relative_error:.2e}, "
        self.figures = f"{logits}{case.agreement:.4%} of pixels equal"
        missed = case.failures(self.limits)
        return "; ".join(missed) if missed else None
