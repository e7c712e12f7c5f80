"""Where a missed parity limit comes from: the target's runtime, and which nodes there, or the graph it was given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from segc.compilation import parity_gate
from segc.compilation.engine import Loaded
from segc.compilation.lowering import HOST
from segc.compilation.report import Verified
from segc.compilation.setup import Setup
from segc.errors import SegcError
from segc.graph import ir
from segc.hybrid import split
from segc.parity import bisect, metrics
from segc.parity.ort_stand_in import stand_in
from segc.targets.protocol import Session

_RUNTIME_ADVICE = (
    "try another version of the runtime, other options of the target, or another target",
    "rerun with --keep-onnx --no-verify: final.onnx in the bundle is the graph, for a report to the runtime's project",
)

_SECONDS = 120.0  # for the search for a pattern


@dataclass(frozen=True)
class Finding:
    """A sentence for the error message. runtime: whether the runtime is at fault, rather than the graph."""

    words: str
    runtime: bool

    @property
    def advice(self) -> tuple[str, ...]:
        """What to try next."""
        return (*_RUNTIME_ADVICE, *metrics.ADVICE[1:]) if self.runtime else metrics.ADVICE


def find(loaded: Loaded, verified: Verified, reference: Callable[[np.ndarray], np.ndarray]) -> Finding | None:
    """Run the lowered graph in ONNX Runtime on the first input that missed a limit, and compare it with the reference.

    None if that says nothing: the engine is ONNX Runtime itself or did not run, or ONNX Runtime refuses the graph.
    """
    made = loaded.planned
    setup, info = made.setup, made.source.info
    name = setup.target.name
    if not setup.status.ran or name == HOST:
        return None
    missed = next(case for case in verified.cases if case.failures(verified.limits))
    x = parity_gate.input_of(missed, made.graph, info, setup.request, setup.settings.shape_range)
    try:
        run = parity_gate.guarded(_stand_in(loaded), HOST)
        output = parity_gate.masked(run, loaded.decode, info, metrics.sides(x), setup.request.threads)(x)
        case = metrics.compare(missed.name, reference(x), output, info.threshold)
    except SegcError:
        return None
    figures = f"{case.agreement:.4%} of pixels equal"
    if case.relative_error is not None:
        figures = f"relative logit error {case.relative_error:.2e}, {figures}"
    if case.failures(verified.limits):
        words = f"ONNX Runtime misses the limits on the same graph ({figures}): {name} is not at fault"
        return Finding(words, runtime=False)
    words = f"ONNX Runtime is right on the same graph ({figures}): {_runtime(setup)} is at fault"
    pattern = _pattern(loaded, x)
    return Finding(words if pattern is None else f"{words}; {pattern.words}", runtime=True)


def _pattern(loaded: Loaded, x: np.ndarray) -> bisect.Pattern | None:
    """The smallest part of the graph that the runtime computes wrongly. None if there is none, or it is not looked for:
    in the segments of a hybrid, behind uint8 images, and where a precision rounds.
    """
    made = loaded.planned
    setup = made.setup
    if made.plan is not None or setup.request.input == "uint8" or setup.request.precision != "fp32":
        return None
    model = ir.to_model(made.graph)
    with setup.journal.step("bisect", "looking for the nodes that the runtime computes wrongly"):
        try:
            run = bisect.in_child(setup.target, setup.settings, setup.request.threads)
            return bisect.smallest_pattern(model, x, run, seconds=_SECONDS)
        except SegcError:
            return None


def _runtime(setup: Setup) -> str:
    """The target with the version, build or device of its runtime."""
    device = "" if setup.target.runs_on() == setup.runtime else setup.target.runs_on()
    return " ".join(filter(None, (setup.target.name, setup.runtime, device)))


def _stand_in(loaded: Loaded) -> Session:
    """ONNX Runtime on the lowered graph, or on all segments of a plan."""
    made = loaded.planned
    threads = made.setup.request.threads
    if made.plan is None:
        return stand_in(ir.to_model(made.graph, functions=False), threads)
    return split.session_of(made.graph, made.plan, loaded.directory, loaded.segments, threads, stand_ins=True)
