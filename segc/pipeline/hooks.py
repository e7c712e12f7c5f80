"""What can hang on a pipeline: timing, dumping, stopping, checking the graph and comparing its numbers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnx.checker
import onnx.printer
import onnx_graphsurgeon as gs

from segc.errors import CompileError, FileError
from segc.graph import ir
from segc.passes.base import Pass, PassResult
from segc.passes.support import evaluate
from segc.pipeline.first_difference import Snapshot, first_difference, rounding
from segc.pipeline.pipeline import StopPipeline


class Silent:
    """A hook that does nothing; base of the others."""

    def before(self, at: int, step: Pass, graph: gs.Graph) -> None:
        """Nothing."""

    def after(self, at: int, step: Pass, graph: gs.Graph, result: PassResult) -> None:
        """Nothing."""


@dataclass
class Timing(Silent):
    """Seconds per pass, in order of running."""

    seconds: list[tuple[str, float]] = field(default_factory=list)
    _start: float = 0.0

    def before(self, at: int, step: Pass, graph: gs.Graph) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def after(self, at: int, step: Pass, graph: gs.Graph, result: PassResult) -> None:
        """Stop it."""
        self.seconds.append((step.name, time.perf_counter() - self._start))


@dataclass
class DumpIR(Silent):
    """Write numbered ONNX text into `directory` after each pass that changed something, `000-input.onnxtxt` first."""

    directory: Path

    def before(self, at: int, step: Pass, graph: gs.Graph) -> None:
        """Write the input once."""
        if at == 0:
            self._write("000-input", graph)

    def after(self, at: int, step: Pass, graph: gs.Graph, result: PassResult) -> None:
        """Write the graph when it changed."""
        if result.changes:
            self._write(f"{at + 1:03d}-{step.name}", graph)

    def _write(self, name: str, graph: gs.Graph) -> None:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            (self.directory / f"{name}.onnxtxt").write_text(text(graph), encoding="utf-8")
        except OSError as error:
            raise FileError(
                f"the graph cannot be written to '{self.directory}'",
                because=error.strerror or str(error),
                so="choose a folder you can write to with --dump-ir",
            ) from error


def text(graph: gs.Graph) -> str:
    """The graph as ONNX text; weights appear as inputs of their type, so that it stays readable."""
    return str(onnx.printer.to_text(ir.weightless_model(graph, limit=64)))


@dataclass
class StopAfter(Silent):
    """Stop once `count` passes have run: bisecting made trivial."""

    count: int

    def after(self, at: int, step: Pass, graph: gs.Graph, result: PassResult) -> None:
        """Stop here when the count is reached."""
        if at + 1 >= self.count:
            raise StopPipeline


class CheckGraph(Silent):
    """After every pass: ONNX's checker with strict shape inference, unique names, an honest change count."""

    def __init__(self) -> None:
        self._before = ""

    def before(self, at: int, step: Pass, graph: gs.Graph) -> None:
        """Remember the graph."""
        self._before = text(graph)

    def after(self, at: int, step: Pass, graph: gs.Graph, result: PassResult) -> None:
        """Raise CompileError naming the pass at fault."""
        if result.changes == 0 and text(graph) != self._before:
            raise CompileError(f"pass '{step.name}' changed the graph but reported no change")
        names = [t.name for node in ir.nodes(graph) for t in node.outputs if t.name]
        if doubled := sorted({n for n in names if names.count(n) > 1} if len(set(names)) < len(names) else ()):
            raise CompileError(f"pass '{step.name}' left two tensors named {doubled[0]!r}")
        try:
            onnx.checker.check_model(ir.checkable_model(graph), full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise CompileError(f"pass '{step.name}' left an invalid graph", because=str(error)) from error


@dataclass
class CheckNumerics(Silent):
    """Run the graph in ONNX Runtime before the first and after each pass on the same input; stop where it differs.

    feeds: input name -> array. tolerance: largest |difference| / largest |value| of an output; None takes 1e-5, or 20
    times what rounding of the inputs alone does where that is more. A pass that changes the outputs' number, shape or
    type on purpose (logits to mask) starts a new baseline. figures: (pass number, error).
    """

    feeds: Mapping[str, np.ndarray]
    tolerance: float | None = None
    figures: dict[int, float] = field(default_factory=dict)
    limit: float = 0.0
    _baseline: list[np.ndarray] = field(default_factory=list)
    _before: Snapshot | None = None

    def before(self, at: int, step: Pass, graph: gs.Graph) -> None:
        """Run the input graph once, and remember each pass's input."""
        self._before = Snapshot.of(graph)
        if at == 0:
            self._baseline = self._run(self._before, "the graph cannot be run before the first pass")
            self.limit = self._limit(self._before) if self.tolerance is None else self.tolerance

    def after(self, at: int, step: Pass, graph: gs.Graph, result: PassResult) -> None:
        """Run again when the graph changed; raise CompileError above the tolerance."""
        if not result.changes:
            return
        now = Snapshot.of(graph)
        outputs = self._run(now, f"the graph cannot be run after pass {at} '{step.name}'")
        if [(o.shape, o.dtype) for o in outputs] != [(o.shape, o.dtype) for o in self._baseline]:
            self._baseline = outputs
            return
        error = max((relative_error(a, b) for a, b in zip(self._baseline, outputs, strict=True)), default=0.0)
        self.figures[at] = error
        if error > self.limit:
            raise CompileError(
                f"numbers first differ after pass {at} '{step.name}'",
                because=f"relative error {error:.2e}, tolerance {self.limit:.1e}",
                where=self._where(now),
                so="rerun with --dump-ir to see the graph before and after",
            )

    def _run(self, snapshot: Snapshot, what: str) -> list[np.ndarray]:
        feeds = {i.name: self.feeds[i.name] for i in snapshot.model.graph.input if i.name in self.feeds}
        try:
            return list(snapshot.run(feeds).values())
        except evaluate.CannotRun as error:
            raise CompileError(what, because=f"ONNX Runtime says: {error}") from error

    def _limit(self, snapshot: Snapshot) -> float:
        names = [o.name for o in snapshot.model.graph.output]
        return max(1e-5, 20 * rounding(snapshot, self.feeds, dict(zip(names, self._baseline, strict=True))))

    def _where(self, now: Snapshot) -> str:
        """The first tensor that this pass left with other numbers."""
        assert self._before is not None
        try:
            found = first_difference(self._before, now, dict(self.feeds), self.limit)
        except evaluate.CannotRun:
            return ""
        return f"first at {found}" if found is not None else ""


def run(graph: gs.Graph, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """All outputs of the graph in ONNX Runtime, without graph optimizations: the graph as it is written."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    model = ir.to_model(graph).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return [np.asarray(y) for y in session.run(None, dict(feeds))]


def relative_error(reference: np.ndarray, other: np.ndarray) -> float:
    """Largest |difference| divided by the largest |reference|; NaN and inf must stand in the same places."""
    a, b = np.asarray(reference, np.float64), np.asarray(other, np.float64)
    finite = np.isfinite(a)
    if not np.array_equal(finite, np.isfinite(b)):
        return float("inf")
    scale = float(np.abs(a[finite]).max(initial=0.0))
    difference = float(np.abs(a[finite] - b[finite]).max(initial=0.0))
    return difference / scale if scale else difference
