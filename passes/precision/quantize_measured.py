"""Compute in 8-bit integers as far as the pixels keep their classes, by measuring on images.

y = op(x), float32  ->  quantize:ranges=R,kept=K. R comes from ONNX Runtime's quantizer on some of the images: the first
method of minmax and percentile with which at least `agreement` of the pixels of each of the other images keep
their class. If none does, the best one, and K are the nodes that change most pixels when they alone are quantized: 1,
2, 4, ... of them, until the pixels keep their classes.

Must not fire: without images. Where nothing of it is enough, the graph is quantized as well as it goes, and the parity
gate refuses the engine.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from segc.errors import CompileError
from segc.graph import ir
from segc.parity import metrics
from segc.passes.base import Pass, PassResult, Skip
from segc.passes.precision.quantize import Quantize
from segc.passes.support.activation_ranges import METHODS, Ranges, activation_ranges
from segc.passes.support.evaluate import CannotRun
from segc.passes.support.integers import OPS, PLAIN, Form, computing, split_gemms
from segc.runtime.ort import OrtSession

_log = logging.getLogger(__name__)

JUDGES_OF_LAYERS = 2  # images on which single nodes are judged


@dataclass(frozen=True)
class Trial:
    """A way to quantize, and the least share of pixels of an image that keep their class."""

    quantize: Quantize
    method: str
    agreement: float


@dataclass(frozen=True)
class QuantizeMeasured(Pass):
    """Compute in 8-bit integers where the pixels keep their classes. Opt-in: it rounds.

    images, held_out: arrays for the graph's only input, to calibrate with and to judge by. agreement: the least share
    of pixels that must keep their class. form: what the runtime has kernels for. Cost: up to two calibrations, a
    run of the held-out images for each trial, and where nodes are kept in float32 a run of each node on two images.
    """

    name: ClassVar[str] = "quantize-measured"
    algebra: ClassVar[str] = "y = Conv(x, w)  ->  quantize, but for the nodes that change the pixels' classes"

    images: tuple[Any, ...] = ()
    held_out: tuple[Any, ...] = ()
    agreement: float = 0.955
    form: Form = PLAIN

    def run(self, graph: gs.Graph) -> PassResult:
        """Measure, then quantize."""
        result = PassResult()
        if not self.images or not self.held_out:
            return result
        if self.form.rounded_outputs:
            result.changes = split_gemms(graph)
        if not computing(graph, self.form):
            return result
        try:
            chosen, costs = self._chosen(graph)
        except (CannotRun, CompileError) as why:
            reason = why.details["because"][0] if isinstance(why, CompileError) else str(why)
            result.skips.append(Skip(graph.name or "graph", f"not measured: {reason}"))
            return result
        done = chosen.quantize.run(graph)
        result.changes += done.changes
        for skip in done.skips:
            cost = costs.get(skip.node)
            reason = skip.reason if cost is None else f"kept in float32: in int8 it alone changes {cost:.2%} of pixels"
            result.skips.append(Skip(skip.node, reason))
        others = (
            f"in each of {len(self.held_out)} others at least {chosen.agreement:.2%} of the pixels keep their class"
        )
        result.notes.append(
            f"{done.changes} nodes in int8, {len(done.skips)} kept in float32: ranges by {chosen.method} of"
            f" {len(self.images)} images; {others}"
        )
        return result

    def _chosen(self, graph: gs.Graph) -> tuple[Trial, dict[str, float]]:
        """The first trial that is good enough, else the best; and what single nodes cost, where that was measured."""
        expected = [_classes(y) for y in _runs(graph, self.held_out)]
        best: Trial | None = None
        for trial in self._by_method(graph, expected):
            if best is None or trial.agreement > best.agreement:
                best = trial
            if trial.agreement >= self.agreement:
                return trial, {}
        assert best is not None
        costs = self._costs(graph, best.quantize, expected)
        for trial in self._by_kept(graph, best, costs, expected):
            if trial.agreement > best.agreement:
                best = trial
            if trial.agreement >= self.agreement:
                break
        return best, costs

    def _by_method(self, graph: gs.Graph, expected: list[np.ndarray]) -> Iterator[Trial]:
        model = ir.to_model(graph)
        for method in METHODS:
            ranges = activation_ranges(model, self.images, method, OPS)
            yield self._tried(graph, Quantize(_listed(ranges), (), self.form), method, expected)

    def _by_kept(
        self, graph: gs.Graph, best: Trial, costs: dict[str, float], expected: list[np.ndarray]
    ) -> Iterator[Trial]:
        """More and more of the costliest nodes kept, but not all."""
        worst, count = sorted(costs, key=lambda name: -costs[name]), 1
        while count < len(worst):
            kept = replace(best.quantize, kept=tuple(worst[:count]))
            yield self._tried(graph, kept, best.method, expected)
            count *= 2

    def _costs(self, graph: gs.Graph, quantize: Quantize, expected: list[np.ndarray]) -> dict[str, float]:
        """The share of pixels that change their class when one node alone is quantized, by name."""
        names = [node.name for node in computing(graph, self.form)]
        few = self.held_out[:JUDGES_OF_LAYERS]
        costs = {}
        for name in names:
            alone = replace(quantize, kept=tuple(other for other in names if other != name))
            costs[name] = 1 - float(np.mean(self._agreements(graph, alone, few, expected)))
        return costs

    def _tried(self, graph: gs.Graph, quantize: Quantize, method: str, expected: list[np.ndarray]) -> Trial:
        least = min(self._agreements(graph, quantize, self.held_out, expected))
        _log.info("int8 by %s, %d nodes kept: %.4f of the pixels equal", method, len(quantize.kept), least)
        return Trial(quantize, method, least)

    def _agreements(
        self, graph: gs.Graph, quantize: Quantize, images: tuple[Any, ...], expected: list[np.ndarray]
    ) -> list[float]:
        trial = graph.copy()
        quantize.run(trial)
        found = [
            float((_classes(y) == wanted).mean()) for y, wanted in zip(_runs(trial, images), expected, strict=False)
        ]
        gc.collect()  # nodes and tensors form reference cycles: without this the weights of all trials pile up
        return found


def _runs(graph: gs.Graph, images: tuple[Any, ...]) -> Iterator[np.ndarray]:
    """The graph's output for each image, by ONNX Runtime with its integer kernels."""
    session = OrtSession(ir.to_model(graph).SerializeToString(), 0, what="the quantized graph")
    for x in images:
        yield session.run(x)


def _classes(y: np.ndarray) -> np.ndarray:
    """The class of each pixel, from logits (N, C, H, W) or a mask."""
    return y if y.dtype.kind in "iu" or y.ndim != 4 else metrics.mask_of(y, None)


def _listed(ranges: Ranges) -> tuple[tuple[str, float, float], ...]:
    return tuple((name, low, high) for name, (low, high) in ranges.items())
