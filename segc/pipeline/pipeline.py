"""A pipeline is an explicit tuple of passes in named stages, checked when it is built and run once in order."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import onnx_graphsurgeon as gs

from segc.graph import ir
from segc.graph.invariants import GIVEN, PORTABLE
from segc.graph.source_info import Adoption
from segc.passes.base import Pass, PassResult

_log = logging.getLogger(__name__)


class PipelineError(ValueError):
    """The pass list cannot work; raised before any model is loaded."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A pass at its place in a pipeline. index: from 0; stage: "" where the pipeline has no stages."""

    index: int
    stage: str
    step: Pass

    def __str__(self) -> str:
        """How errors name the place."""
        return f"pass {self.index} '{self.step.name}'" + (f" in stage '{self.stage}'" if self.stage else "")


class Hook(Protocol):
    """Called around every pass: timing, dumping, checking and stopping are hooks (see segc.pipeline.hooks)."""

    def before(self, entry: Entry, graph: gs.Graph) -> None:
        """Called before a pass runs."""

    def after(self, entry: Entry, graph: gs.Graph, result: PassResult) -> None:
        """Called after it ran and the graph was cleaned up and sorted."""


class StopPipeline(Exception):  # noqa: N818 - a signal, not an error
    """Raised by a hook to end the run here; the graph stays as it is."""


@dataclass(frozen=True)
class Pipeline:
    """Passes in order.

    given: invariants that hold before the first pass; promised: those that must hold after the last. assumed:
    invariants that nobody checks here, since the caller answers for them. stages: the stage of each pass; empty where
    the passes have none. Raises PipelineError when a pass requires what does not hold at its place.
    """

    name: str
    passes: tuple[Pass, ...]
    given: frozenset[str] = GIVEN
    promised: frozenset[str] = frozenset()
    assumed: frozenset[str] = frozenset()
    stages: tuple[str, ...] = field(default=(), kw_only=True)

    @classmethod
    def of_stages(
        cls, name: str, stages: Mapping[str, Sequence[Pass]],
        given: frozenset[str] = GIVEN, promised: frozenset[str] = frozenset(),
    ) -> Pipeline:  # fmt: skip
        """Stages in order: name -> passes."""
        pairs = [(stage, step) for stage, steps in stages.items() for step in steps]
        return cls(name, tuple(s for _, s in pairs), given, promised, stages=tuple(stage for stage, _ in pairs))

    def __post_init__(self) -> None:
        """Refuse an order in which an invariant does not hold where it is required."""
        if self.stages and len(self.stages) != len(self.passes):
            raise PipelineError(f"{self.name}: {len(self.stages)} stage names for {len(self.passes)} passes")
        holds = self.given | self.assumed
        for entry, after in zip(self.entries, self.claims(), strict=True):
            if missing := entry.step.requires - holds - self.assumed:
                raise PipelineError(f"{self.name}: {entry} requires {self._advice(min(missing), entry.index)}")
            holds = after
        if missing := self.promised - holds:
            raise PipelineError(
                f"{self.name}: the end of the pipeline requires {self._advice(min(missing), len(self.passes))}"
            )

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Each pass with its place."""
        stages = self.stages or ("",) * len(self.passes)
        return tuple(Entry(i, stage, step) for i, (stage, step) in enumerate(zip(stages, self.passes, strict=True)))

    def claims(self) -> tuple[frozenset[str], ...]:
        """The invariants that are claimed to hold after each pass."""
        holds, claimed = self.given | self.assumed, []
        for step in self.passes:
            holds = (holds - step.invalidates) | step.ensures | self.assumed
            claimed.append(holds)
        return tuple(claimed)

    def relied_on(self) -> tuple[frozenset[str], ...]:
        """The claims after each pass that must last until a later pass requires them, or until the end, if promised."""
        relied, found = self.promised, []
        for step in reversed(self.passes):
            found.append(relied)
            relied = (relied - step.ensures - step.invalidates) | step.requires
        return tuple(reversed(found))

    def run(self, graph: gs.Graph, hooks: Iterable[Hook] = ()) -> list[PassResult]:
        """Run each pass once on `graph`, in place; one result a pass that ran (fewer when a hook stopped it)."""
        results: list[PassResult] = []
        hooks = tuple(hooks)
        try:
            for entry in self.entries:
                for hook in hooks:
                    hook.before(entry, graph)
                adoption, start = Adoption(graph), time.perf_counter()
                results.append(result := entry.step.run(graph))
                if result.changes:
                    ir.cleanup(graph)
                    adoption.adopt(graph, entry.step.name, for_runtime=PORTABLE in entry.step.invalidates)
                _log_result(entry, result, time.perf_counter() - start)
                for hook in hooks:
                    hook.after(entry, graph, result)
        except StopPipeline:
            _log.info("pipeline '%s' stopped after %d of %d passes", self.name, len(results), len(self.passes))
        changed = sum(result.changes > 0 for result in results)
        _log.info("pipeline '%s': %d of %d passes changed the graph", self.name, changed, len(results))
        return results

    def _advice(self, invariant: str, index: int) -> str:
        """The invariant that does not hold before pass `index`, what ensures or invalidates it, and what to do."""
        entries = self.entries
        broken = [e for e in entries[:index] if invariant in e.step.invalidates]
        before = [e for e in entries[:index] if invariant in e.step.ensures]
        behind = [e for e in entries[index:] if invariant in e.step.ensures]
        here = "the end" if index == len(entries) else f"'{entries[index].step.name}'"
        if before or invariant in self.given:  # and yet it does not hold: something broke it
            last = broken[-1]
            ensured = f"{before[-1]} ensures it, but " if before else "it holds at first, but "
            again = f", or '{before[-1].step.name}' once more behind it" if before else ""
            move = f"{ensured}{last} invalidates it: put '{last.step.name}' "
            return (
                f"'{invariant}'; {move}{'before ' + repr(before[-1].step.name) if before else 'behind ' + here}{again}"
            )
        if behind:
            return f"'{invariant}', which {behind[0]} ensures: put '{behind[0].step.name}' before {here}"
        return f"'{invariant}', which no pass of this pipeline ensures: add one that does (`segc passes` lists them)"


def _log_result(entry: Entry, result: PassResult, seconds: float) -> None:
    """Log what a pass changed, and why it left sites alone."""
    _log.debug("%s: %d changes in %.1f ms", entry, result.changes, 1e3 * seconds)
    for skip in result.skips:
        _log.debug("%s skipped '%s': %s", entry.step.name, skip.node, skip.reason)
