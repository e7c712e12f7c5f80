"""Leave out passes that make this model much less exact: they are exact in algebra, but round more than they replace.

What such a pass costs depends on the model, because later layers may amplify its rounding. So the graph runs in ONNX
Runtime with and without the target's measured passes, on the inputs of the parity gate, and both are compared with the
reference.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from segc.errors import SegcError
from segc.graph import ir
from segc.parity import rounding, sample_inputs
from segc.parity.difference import largest_difference
from segc.parity.reference import reference_of
from segc.pipeline import stages
from segc.runtime.ort import OrtSession

if TYPE_CHECKING:
    import onnx

    from segc.compilation.lowering import Exported
    from segc.frontend.model import Source

COST = 1.5  # the error with the passes may be so many times the error without them
FLOOR = 2.0**-21  # four units in the last place of float32: smaller errors are as good as none


@dataclass(frozen=True)
class Errors:
    """The largest relative logit error, with the measured passes and without them."""

    fast: float
    plain: float

    @property
    def dear(self) -> bool:
        """Whether the passes cost more than is allowed."""
        return not self.fast <= max(COST * self.plain, FLOOR)


def settle(exported: Exported) -> Exported:
    """The export with a target that has no pass which costs too much; a note says which are left out.

    Without a parity gate there is no reference, and nothing is measured.
    """
    setup = exported.setup
    names = setup.target.measured_passes
    if not names or not setup.request.verify:
        return exported
    with setup.journal.step("measure", f"measuring what {' and '.join(sorted(names))} costs"):
        key = (setup.target.name, setup.request.dynamic, exported.shape)
        found = setup.journal.cache.errors(key, lambda: _errors(exported))
    if found is None or not found.dear:
        return exported
    kept = tuple(step for step in setup.target.legalize if step.name not in names)
    for name in sorted(names):
        setup.journal.notes.add(
            f"{name} is left out: it makes the logit error {found.fast / found.plain:.1f} times as large"
            f" ({found.fast:.1e} instead of {found.plain:.1e}); --set {name}=on keeps it"
        )
    return replace(exported, setup=replace(setup, target=replace(setup.target, legalize=kept)))


def _errors(exported: Exported) -> Errors | None:
    """Measure. None if the passes find nothing to do, or ONNX Runtime cannot run the graph."""
    setup, info = exported.setup, exported.source.info
    target = setup.target
    measured = [step for step in target.legalize if step.name in target.measured_passes]
    others = tuple(step for step in target.legalize if step.name not in target.measured_passes)
    graph = ir.from_model(exported.copy().model)
    ir.infer_shapes(graph)
    fixed = None if setup.request.dynamic else (info.batch, *exported.shape)
    reference = setup.journal.cache.reference(exported.source, reference_of(exported.source))
    shape = (info.batch, info.in_channels, *exported.shape)
    inputs = [x for _, x in sample_inputs.inputs(shape, info.mean, info.std, info.channel_order)]
    try:
        stages.standard(replace(target, legalize=others), shape=fixed).run(graph)
        plain = ir.to_model(graph, functions=False)
        if not sum(step.run(graph).changes for step in measured):
            return None
        want = [reference(x) for x in inputs]
        fast, threads = ir.to_model(graph, functions=False), setup.request.threads
        own = max(map(_own_error, [exported.source] * len(inputs), inputs, want))
        return Errors(_error(fast, inputs, want, threads), max(own, _error(plain, inputs, want, threads)))
    except (SegcError, ValueError) as error:  # steps that follow mostly meet it too, and say more
        what, reason = " and ".join(sorted(target.measured_passes)), (str(error).splitlines() or [""])[0]
        setup.journal.notes.add(f"what {what} costs was not measured: {reason}")
        return None
    finally:
        del graph
        gc.collect()  # a graph has reference cycles, which keep all weights in memory


def _own_error(source: Source, x: np.ndarray, want: np.ndarray) -> float:
    """The relative error of the reference where it is ONNX Runtime, which gives the plain graph the same rounding."""
    if source.module is not None:
        return 0.0
    bound, largest = rounding.bound(source, x), float(np.abs(want[np.isfinite(want)]).max(initial=0.0))
    return 0.0 if bound is None or not largest else bound / rounding.SLACK / largest


def _error(model: onnx.ModelProto, inputs: list[np.ndarray], want: list[np.ndarray], threads: int) -> float:
    session = OrtSession(model.SerializeToString(), threads, what="the graph")
    return max(largest_difference(y, session.run(x))[1] for x, y in zip(inputs, want, strict=True))
