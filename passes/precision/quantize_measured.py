"""Compute in 8-bit integers as far as the masks keep their limits, by measuring on images.

y = op(x), float32  ->  quantize:ranges=R,kept=K, with R, K and more from a search (int8_search.py) that calibrates on
some of the images and judges on the others: by the share of pixels that keep their class and, where labels are given,
by the mIoU that is lost.

Must not fire: without images. Where nothing of it is enough, the graph is quantized as well as it goes, and the parity
gate refuses the engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import onnx_graphsurgeon as gs

from segc.errors import CompileError
from segc.passes.base import Pass, PassResult, Skip
from segc.passes.support.evaluate import CannotRun
from segc.passes.support.int8_search import Search, Trial
from segc.passes.support.integers import PLAIN, Form, computing, split_gemms
from segc.passes.support.judging import Judge


@dataclass(frozen=True)
class QuantizeMeasured(Pass):
    """Compute in 8-bit integers where the masks keep their limits. Opt-in: it rounds.

    images, held_out: arrays for the graph's only input, to calibrate with and to judge by. agreement: the least share
    of pixels that must keep their class. form: what the runtime has kernels for. labels: of held_out, see Judge.
    max_drop: points of mIoU. memory, say: see Search. Cost: up to three runs of the images, a run of the held-out ones
    for each trial, and where nodes are kept in float32 a run of each node on two images.
    """

    name: ClassVar[str] = "quantize-measured"
    algebra: ClassVar[str] = "y = Conv(x, w)  ->  quantize, but for the nodes that change the pixels' classes"

    images: tuple[Any, ...] = ()
    held_out: tuple[Any, ...] = ()
    agreement: float = 0.955
    form: Form = PLAIN
    labels: tuple[Any, ...] = ()
    max_drop: float | None = None
    memory: Any = None
    say: Any = None

    def run(self, graph: gs.Graph) -> PassResult:
        """Measure, then quantize."""
        result = PassResult()
        if not self.images or not self.held_out:
            return result
        if self.form.rounded_outputs:
            result.changes = split_gemms(graph)
        nodes = [(node.name, node.op) for node in computing(graph, self.form)]
        if not nodes:
            return result
        judge = Judge(self.agreement, self.labels, self.max_drop)
        search = Search(graph, self.images, self.held_out, judge, self.form, self.memory, self.say)
        try:
            chosen = search.run()
            quantize = search.quantize(chosen.candidate, chosen.kept)
        except (CannotRun, CompileError) as why:
            reason = why.details["because"][0] if isinstance(why, CompileError) else str(why)
            result.skips.append(Skip(graph.name or "graph", f"not measured: {reason}"))
            return result
        done = quantize.run(graph)
        result.changes += done.changes
        for skip in done.skips:
            cost = search.costs.get(skip.node) if skip.node in chosen.kept else None
            reason = skip.reason if cost is None else f"kept in float32: in int8 it alone changes {cost:.2%} of pixels"
            result.skips.append(Skip(skip.node, reason))
        result.notes.append(self._note(chosen, done))
        result.details = _details(search, chosen, nodes, {skip.node: skip.reason for skip in result.skips})
        return result

    def _note(self, chosen: Trial, done: PassResult) -> str:
        lost = "" if chosen.outcome.drop is None else f" and mIoU drops by {chosen.outcome.drop:.2f} points"
        return (
            f"{done.changes} nodes in int8, {len(done.skips)} kept in float32: ranges by {chosen.candidate.name} of"
            f" {len(self.images)} images; in each of {len(self.held_out)} others at least"
            f" {chosen.outcome.agreement:.2%} of the pixels keep their class{lost}"
        )


def _details(
    search: Search, chosen: Trial, nodes: list[tuple[str, str]], reasons: dict[str, str]
) -> dict[str, Any]:  # fmt: skip
    """Every trial with what came of it, and every layer with what it computes in and, where measured, what it costs."""
    trials = [
        {"trial": one.words, "agreement": one.outcome.agreement, "drop": one.outcome.drop} for one in search.trials
    ]
    layers = [
        {"node": name, "op": op, "precision": "fp32" if name in reasons else "int8",
         "changed_pixels": search.costs.get(name), "reason": reasons.get(name, "")}
        for name, op in nodes
    ]  # fmt: skip
    return {"chosen": chosen.words, "trials": trials, "layers": layers}
