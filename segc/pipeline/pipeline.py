"""A pipeline is an explicit tuple of passes, checked when it is built and run once in order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import networkx as nx
import onnx_graphsurgeon as gs

from segc.graph import ir
from segc.graph.source_info import Adoption
from segc.passes.base import Pass, PassResult


class PipelineError(ValueError):
    """The pass list cannot work; raised before any model is loaded."""


class Hook(Protocol):
    """Called around every pass: timing, dumping, checking and stopping are hooks (see segc.pipeline.hooks)."""

    def before(self, at: int, step: Pass, graph: gs.Graph) -> None:
        """Called before pass number `at` (from 0) runs."""

    def after(self, at: int, step: Pass, graph: gs.Graph, result: PassResult) -> None:
        """Called after it ran and the graph was cleaned up and sorted."""


class StopPipeline(Exception):  # noqa: N818 - a signal, not an error
    """Raised by a hook to end the run here; the graph stays as it is."""


@dataclass(frozen=True)
class Pipeline:
    """Passes in order. `given`: facts that hold before the first of them."""

    name: str
    passes: tuple[Pass, ...]
    given: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Refuse a list in which some pass needs what no earlier pass gives."""
        holds = set(self.given)
        for at, step in enumerate(self.passes):
            if missing := step.needs - holds:
                givers = ", ".join(p.name for p in self.passes if missing & p.gives) or "no pass here"
                raise PipelineError(f"{self.name}: pass {at} '{step.name}' needs {sorted(missing)}, given by {givers}")
            holds = (holds - step.drops) | step.gives

    def facts_after(self, at: int) -> frozenset[str]:
        """Facts that are promised to hold after pass number `at`."""
        holds = set(self.given)
        for step in self.passes[: at + 1]:
            holds = (holds - step.drops) | step.gives
        return frozenset(holds)

    def run(self, graph: gs.Graph, hooks: Iterable[Hook] = ()) -> list[PassResult]:
        """Run each pass once on `graph`, in place; one result a pass that ran (fewer when a hook stopped it)."""
        results: list[PassResult] = []
        hooks = tuple(hooks)
        try:
            for at, step in enumerate(self.passes):
                for hook in hooks:
                    hook.before(at, step, graph)
                adoption = Adoption(graph)
                results.append(result := step.run(graph))
                if result.changes:
                    ir.cleanup(graph)
                    adoption.adopt(graph, step.name)
                for hook in hooks:
                    hook.after(at, step, graph, result)
        except StopPipeline:
            pass
        return results


def order(passes: tuple[Pass, ...]) -> tuple[Pass, ...]:
    """The written order, moved only where a need demands it. Raises PipelineError when needs form a cycle."""
    at = {p.name: i for i, p in enumerate(passes)}
    graph = nx.DiGraph((a.name, b.name) for a in passes for b in passes if a is not b and a.gives & b.needs)
    graph.add_nodes_from(at)
    if cycle := next(nx.simple_cycles(graph), None):
        raise PipelineError("passes need each other: " + " -> ".join([*cycle, cycle[0]]))
    return tuple(passes[at[n]] for n in nx.lexicographical_topological_sort(graph, key=at.__getitem__))
