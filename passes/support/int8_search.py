"""Search for a way to compute a graph in 8-bit integers that keeps the limits of a judge.

Candidates come in an order that finds a good one soon: two ways to take ranges, then the same with corrected biases,
then one scale for all weights of a layer; then the best of them with the 1, 2, 4, ... nodes in float32 that change most
pixels when they alone are quantized. The search stops at the first that is good enough. What was measured can be kept
in a `Memory`, so that a search that was stopped goes on.
"""

from __future__ import annotations

import gc
import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Protocol

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph import ir
from segc.parity import metrics
from segc.passes.precision.quantize import Quantize
from segc.passes.support.activation_ranges import activation_means, activation_ranges
from segc.passes.support.integers import OPS, Form, computing
from segc.passes.support.judging import Judge, Outcome
from segc.runtime.ort import OrtSession

_log = logging.getLogger(__name__)

JUDGES_OF_NODES = 2  # images on which single nodes are judged


class Memory(Protocol):
    """What earlier searches measured. search: a digest of the graph and the images. what: a name."""

    def recall(self, search: str, what: str) -> Mapping[str, Any] | None:
        """What was kept under these names, or None."""

    def keep(self, search: str, what: str, found: Mapping[str, Any]) -> None:
        """Keep it."""


@dataclass(frozen=True)
class Candidate:
    """method: of activation_ranges. per_channel, corrected: of weights and biases, see quantize."""

    name: str
    method: str
    per_channel: bool = True
    corrected: bool = False


CANDIDATES = (
    Candidate("minmax", "minmax"),
    Candidate("percentile", "percentile"),
    Candidate("minmax with corrected biases", "minmax", corrected=True),
    Candidate("percentile with corrected biases", "percentile", corrected=True),
    Candidate("minmax with one scale for the weights of a layer", "minmax", per_channel=False),
)


@dataclass(frozen=True)
class Trial:
    """A candidate, with the nodes that stay in float32, and what came of it."""

    candidate: Candidate
    kept: tuple[str, ...]
    outcome: Outcome

    @property
    def words(self) -> str:
        """For progress and reports."""
        return self.candidate.name + (f", {len(self.kept)} nodes in float32" if self.kept else "")


class Search:
    """One search. images: to calibrate with. held_out: to judge by. say: called with a sentence for each trial."""

    def __init__(
        self, graph: gs.Graph, images: Sequence[Any], held_out: Sequence[Any], judge: Judge, form: Form,
        memory: Memory | None = None, say: Callable[[str], None] | None = None,
    ) -> None:  # fmt: skip
        self.graph, self.images, self.held_out, self.judge, self.form = graph, images, held_out, judge, form
        self.trials: list[Trial] = []
        self.costs: dict[str, float] = {}
        self._model = ir.to_model(graph)
        self._expected: list[np.ndarray] | None = None
        self._memory, self._say = memory, say or (lambda _: None)
        self._name = self._digest() if memory is not None else ""
        self.ranges, self.means = cache(self._ranges), cache(self._means)

    def run(self) -> Trial:
        """The first trial that is good enough, else the best. Raises CannotRun, CompileError."""
        best: Trial | None = None
        for trial in self._trials():
            self.trials.append(trial)
            self._say(f"int8, {trial.words}: {_said(trial.outcome)}")
            if best is None or self.judge.better(trial.outcome, best.outcome):
                best = trial
            if self.judge.good(trial.outcome):
                return trial
        assert best is not None
        return best

    def _trials(self) -> Iterator[Trial]:
        for candidate in CANDIDATES:
            yield self._tried(candidate, ())
        best = self.trials[0]
        for trial in self.trials[1:]:
            best = trial if self.judge.better(trial.outcome, best.outcome) else best
        self.costs = self._costs(best.candidate)
        worst, count = sorted(self.costs, key=lambda name: -self.costs[name]), 1
        while count < len(worst):
            yield self._tried(best.candidate, tuple(worst[:count]))
            count *= 2

    def quantize(self, candidate: Candidate, kept: tuple[str, ...]) -> Quantize:
        """The pass that does it."""
        means = self.means() if candidate.corrected else ()
        return Quantize(self.ranges(candidate.method), kept, self.form, candidate.per_channel, means)

    def _tried(self, candidate: Candidate, kept: tuple[str, ...]) -> Trial:
        what = f"{candidate.name}; {','.join(kept)}"
        if (known := self._recalled(what)) is not None:
            return Trial(candidate, kept, Outcome(known["agreement"], known["drop"]))
        outcome = self._outcome(self.quantize(candidate, kept), self.held_out)
        trial = Trial(candidate, kept, outcome)
        _log.info("%s: %s", trial.words, _said(outcome))
        self._keep(what, {"agreement": outcome.agreement, "drop": outcome.drop})
        return trial

    def _costs(self, candidate: Candidate) -> dict[str, float]:
        """The share of pixels that change their class when one node alone is quantized, by name."""
        names = [node.name for node in computing(self.graph, self.form)]
        self._say(f"int8: looking for the layers that cost most, of {len(names)}")
        costs = {}
        for name in names:
            what = f"{candidate.name}; only {name}"
            if (known := self._recalled(what)) is None:
                alone = self.quantize(candidate, tuple(other for other in names if other != name))
                changed = self._changed(alone, self.held_out[:JUDGES_OF_NODES])
                known = {"changed": changed}
                self._keep(what, known)
            costs[name] = float(known["changed"])
        return costs

    def _outcome(self, quantize: Quantize, images: Sequence[Any]) -> Outcome:
        return self.judge.outcome(self.expected()[: len(images)], self._masks(quantize, images))

    def _changed(self, quantize: Quantize, images: Sequence[Any]) -> float:
        pairs = zip(self.expected(), self._masks(quantize, images), strict=False)
        return float(np.mean([(a != b).mean() for a, b in pairs]))

    def expected(self) -> list[np.ndarray]:
        """The masks of the graph in float32."""
        if self._expected is None:
            self._expected = [classes(y) for y in runs(self.graph, self.held_out)]
        return self._expected

    def _masks(self, quantize: Quantize, images: Sequence[Any]) -> list[np.ndarray]:
        trial = self.graph.copy()
        quantize.run(trial)
        found = [classes(y) for y in runs(trial, images)]
        del trial
        gc.collect()  # nodes and tensors form reference cycles: without this the weights of all trials pile up
        return found

    def _ranges(self, method: str) -> tuple[tuple[str, float, float], ...]:
        found = activation_ranges(self._model, self.images, method, OPS)
        return tuple((name, low, high) for name, (low, high) in found.items())

    def _means(self) -> tuple[tuple[str, tuple[float, ...]], ...]:
        inputs = [node.inputs[0].name for node in computing(self.graph, self.form) if node.op == "Conv"]
        return tuple(activation_means(self._model, self.images, inputs).items())

    def _recalled(self, what: str) -> Mapping[str, Any] | None:
        return None if self._memory is None else self._memory.recall(self._name, what)

    def _keep(self, what: str, found: Mapping[str, Any]) -> None:
        if self._memory is not None:
            self._memory.keep(self._name, what, found)

    def _digest(self) -> str:
        digest = hashlib.sha256(self._model.SerializeToString(deterministic=True))
        for x in (*self.images, *self.held_out, *self.judge.labels):
            digest.update(np.ascontiguousarray(x).tobytes())
        return hashlib.sha256(digest.digest() + repr(_plain(self.form)).encode()).hexdigest()


def _plain(form: Form) -> Form:
    """In a spelling that is the same in every process."""
    return replace(form, ops=tuple(sorted(form.ops)))  # type: ignore[arg-type]


def runs(graph: gs.Graph, images: Sequence[Any]) -> Iterator[np.ndarray]:
    """The graph's output for each image, by ONNX Runtime with its integer kernels."""
    session = OrtSession(ir.to_model(graph).SerializeToString(), 0, what="the quantized graph")
    for x in images:
        yield session.run(x)


def classes(y: np.ndarray) -> np.ndarray:
    """The class of each pixel, from logits (N, C, H, W) or a mask."""
    return y if y.dtype.kind in "iu" or y.ndim != 4 else metrics.mask_of(y, None)


def _said(outcome: Outcome) -> str:
    lost = "" if outcome.drop is None else f", {outcome.drop:+.2f} points of mIoU lost"
    return f"at least {outcome.agreement:.2%} of the pixels of an image keep their class{lost}"
