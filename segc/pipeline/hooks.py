"""What can hang on a pipeline: timing, dumping, stopping, checking the graph and comparing its numbers."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnx.printer
import onnx_graphsurgeon as gs

from segc.errors import Code, CompileError, FileError
from segc.files.whole import write_whole
from segc.graph import ir, libraries, source_info
from segc.graph.invariants import INVARIANTS, Invariant
from segc.parity.difference import largest_difference
from segc.passes.base import PassResult
from segc.passes.support import evaluate
from segc.pipeline.first_difference import Snapshot, first_difference, rounding
from segc.pipeline.pipeline import Entry, Pipeline, StopPipeline

_log = logging.getLogger(__name__)


class Silent:
    """A hook that does nothing; base of the others."""

    def before(self, entry: Entry, graph: gs.Graph) -> None:
        """Nothing."""

    def after(self, entry: Entry, graph: gs.Graph, result: PassResult) -> None:
        """Nothing."""


@dataclass
class Timing(Silent):
    """Each pass that ran, in order, and its seconds."""

    entries: list[tuple[Entry, float]] = field(default_factory=list)
    _start: float = 0.0

    def before(self, entry: Entry, graph: gs.Graph) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def after(self, entry: Entry, graph: gs.Graph, result: PassResult) -> None:
        """Stop it."""
        self.entries.append((entry, time.perf_counter() - self._start))

    def by_name(self) -> dict[str, float]:
        """Seconds by the name of a pass, over all its runs."""
        total: dict[str, float] = {}
        for entry, seconds in self.entries:
            total[entry.step.name] = total.get(entry.step.name, 0.0) + seconds
        return total


@dataclass
class DumpIR(Silent):
    """Write the graph as ONNX text into `directory`: `000-input.onnxtxt`, then a file after each pass that changed it.

    Files are called NUMBER-STAGE-PASS.onnxtxt. `index.txt` lists every pass that ran, with its stage, its changes and
    the count of nodes behind it.
    """

    directory: Path
    _index: list[str] = field(default_factory=list)

    def before(self, entry: Entry, graph: gs.Graph) -> None:
        """Write the input once."""
        if entry.index == 0:
            self._write("000-input.onnxtxt", text(graph))
            self._list(f"000 {'':<12} {'input':<32} {'':>8} {len(graph.nodes):>7} nodes")

    def after(self, entry: Entry, graph: gs.Graph, result: PassResult) -> None:
        """Write the graph when it changed, and a line of the index."""
        number, name = f"{entry.index + 1:03d}", entry.step.name
        if result.changes:
            self._write("-".join(filter(None, (number, entry.stage, name))) + ".onnxtxt", text(graph))
        self._list(f"{number} {entry.stage:<12} {name:<32} {result.changes:>8} {len(graph.nodes):>7} nodes")

    def _list(self, line: str) -> None:
        self._index.append(f"{line}\n")
        self._write("index.txt", "".join(self._index))

    def _write(self, name: str, content: str) -> None:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileError(
                f"the graph cannot be written to '{self.directory}'",
                code=Code.UNWRITABLE,
                because=error.strerror or str(error),
                so="choose a folder you can write to with --dump-ir",
            ) from error
        write_whole(self.directory / name, content.encode(), durable=False, result=False)
        _log.debug("wrote %s", self.directory / name)


def text(graph: gs.Graph) -> str:
    """The graph as ONNX text; weights appear as inputs of their type, so that it stays readable."""
    return str(onnx.printer.to_text(ir.weightless_model(graph, limit=64)))


def node_lines(graph: gs.Graph) -> list[str]:
    """One line a node: what it makes, its op with attributes, what it reads, and where it comes from."""

    def named(tensor: gs.Tensor) -> str:
        if isinstance(tensor, gs.Constant):
            return f"{np.dtype(tensor.dtype).name}{list(tensor.shape)}"
        return str(tensor.name)

    def line(node: gs.Node) -> str:
        plain = ", ".join(f"{k}={v}" for k, v in sorted(node.attrs.items()) if isinstance(v, int | float | str | list))
        origin = str(source_info.of(node))
        where = "" if origin in ("", "unknown origin") else f"  # {origin}"
        shown = f"<{plain}>" if plain else ""
        return f"{', '.join(map(named, node.outputs))} = {node.op}{shown}({', '.join(map(named, node.inputs))}){where}"

    return [line(node) for node in graph.nodes]


@dataclass
class StopAfter(Silent):
    """Stop once `count` passes have run: bisecting made trivial."""

    count: int

    def after(self, entry: Entry, graph: gs.Graph, result: PassResult) -> None:
        """Stop here when the count is reached."""
        if entry.index + 1 >= self.count:
            raise StopPipeline


class CheckGraph(Silent):
    """After every pass: ONNX's checker with strict shape inference, unique names, an honest change count."""

    def __init__(self) -> None:
        self._before = ""

    def before(self, entry: Entry, graph: gs.Graph) -> None:
        """Remember the graph."""
        self._before = text(graph)

    def after(self, entry: Entry, graph: gs.Graph, result: PassResult) -> None:
        """Raise CompileError naming the pass at fault."""
        if result.changes == 0 and text(graph) != self._before:
            raise CompileError(f"{entry} changed the graph but reported no change", code=Code.PASS_FAULT)
        names = [t.name for node in ir.nodes(graph) for t in node.outputs if t.name]
        if doubled := sorted({n for n in names if names.count(n) > 1} if len(set(names)) < len(names) else ()):
            raise CompileError(f"{entry} left two tensors named {doubled[0]!r}", code=Code.PASS_FAULT)
        try:
            libraries.check_model(ir.checkable_model(graph), full=True)
        except libraries.CHECK_ERRORS as error:
            raise CompileError(f"{entry} left an invalid graph", code=Code.PASS_FAULT, because=str(error)) from error


@dataclass
class _Claim:
    """An invariant that somebody relies on: who ensured it, and the nodes that stand against it with a reason."""

    invariant: Invariant
    by: Entry | None
    excused: set[str] = field(default_factory=set)


class CheckInvariants(Silent):
    """After every pass: what it ensures holds, but for what it skipped, and what held before still does.

    Looks only at what a later pass requires or the pipeline promises. An invariant that is given and that the graph
    breaks from the start is let go: graphs from elsewhere may be in float16, say. Cost: a walk over the nodes for each
    invariant, for a settled rewrite another run of its pass on a copy, where a pass changed something.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._relied = pipeline.relied_on()
        self._given = pipeline.given
        self._claims: dict[str, _Claim] = {}

    def before(self, entry: Entry, graph: gs.Graph) -> None:
        """Before the first pass: see which of what is given the graph has."""
        if entry.index == 0:
            given = {name: INVARIANTS[name] for name in sorted(self._given & INVARIANTS.keys())}
            self._claims = {n: _Claim(i, None) for n, i in given.items() if not i.settled and i(graph) is None}

    def after(self, entry: Entry, graph: gs.Graph, result: PassResult) -> None:
        """Raise CompileError naming the pass, the invariant, and the node that breaks it."""
        for name in entry.step.invalidates:
            self._claims.pop(name, None)
        for name in sorted(entry.step.ensures & INVARIANTS.keys()):
            self._claims[name] = self._ensured(name, entry, graph, result)
        if result.changes:
            for name, claim in self._claims.items():
                if name in self._relied[entry.index] and name not in entry.step.ensures:
                    self._require(name, claim, entry, graph)

    def _ensured(self, name: str, entry: Entry, graph: gs.Graph, result: PassResult) -> _Claim:
        """What the pass has just ensured; a node that it skipped may stand against it."""
        claim, skipped = _Claim(INVARIANTS[name], entry), {skip.node for skip in result.skips}
        for breach in claim.invariant.breaches(graph, entry.step):
            if breach.node not in skipped and not (skipped and not breach.node):
                raise CompileError(
                    f"{entry} ensures '{name}', and it does not hold", code=Code.PASS_FAULT, because=breach.why,
                    so="rerun with --dump-ir to see the graph before and after",
                )  # fmt: skip
            claim.excused |= {breach.node, *breach.tensors}
        return claim

    def _require(self, name: str, claim: _Claim, entry: Entry, graph: gs.Graph) -> None:
        for breach in claim.invariant.breaches(graph, claim.by.step if claim.by is not None else None):
            if not claim.excused & {breach.node, *breach.tensors}:
                ensured = "it held at first" if claim.by is None else f"{claim.by} ensured it"
                raise CompileError(
                    f"{entry} breaks '{name}' and does not say that it invalidates it",
                    code=Code.PASS_FAULT,
                    because=[breach.why, ensured],
                    so=f"add '{name}' to the pass's `invalidates`, or mend the pass",
                )


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
    _baseline: dict[str, np.ndarray] = field(default_factory=dict)  # by output, a sequence's tensors by their own names
    _before: Snapshot | None = None

    def before(self, entry: Entry, graph: gs.Graph) -> None:
        """Run the input graph once, and remember each pass's input."""
        self._before = Snapshot.of(graph)
        if entry.index == 0:
            self._baseline = self._run(self._before, "the graph cannot be run before the first pass")
            self.limit = self._limit(self._before) if self.tolerance is None else self.tolerance

    def after(self, entry: Entry, graph: gs.Graph, result: PassResult) -> None:
        """Run again when the graph changed; raise CompileError above the tolerance."""
        if not result.changes:
            return
        now = Snapshot.of(graph)
        outputs = self._run(now, f"the graph cannot be run after {entry}")
        pairs = (self._baseline.values(), outputs.values())
        if [(o.shape, o.dtype) for o in pairs[0]] != [(o.shape, o.dtype) for o in pairs[1]]:
            self._baseline = outputs
            return
        error = max((largest_difference(a, b)[1] for a, b in zip(*pairs, strict=True)), default=0.0)
        self.figures[entry.index] = error
        if error > self.limit:
            raise CompileError(
                f"numbers first differ after {entry}",
                code=Code.NUMBERS_DIFFER,
                because=f"relative error {error:.2e}, tolerance {self.limit:.1e}",
                where=self._where(now),
                so="rerun with --dump-ir to see the graph before and after",
            )

    def _run(self, snapshot: Snapshot, what: str) -> dict[str, np.ndarray]:
        feeds = {i.name: self.feeds[i.name] for i in snapshot.model.graph.input if i.name in self.feeds}
        try:
            return dict(snapshot.run(feeds))
        except evaluate.CannotRun as error:
            raise CompileError(what, code=Code.NUMBERS_DIFFER, because=f"ONNX Runtime says: {error}") from error

    def _limit(self, snapshot: Snapshot) -> float:
        return max(1e-5, 20 * rounding(snapshot, self.feeds, self._baseline))

    def _where(self, now: Snapshot) -> str:
        """The first tensor that this pass left with other numbers."""
        assert self._before is not None
        try:
            found = first_difference(self._before, now, dict(self.feeds), self.limit)
        except evaluate.CannotRun:
            return ""
        return f"first at {found}" if found is not None else ""
