"""The part of a lowered graph that the target's own runtime computes wrongly, or fails on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import onnx_graphsurgeon as gs

from segc.compilation.lowering import Planned
from segc.diagnosis.states import Node, nodes_of
from segc.graph import ir
from segc.hybrid.emit import model_of
from segc.isolation import native
from segc.parity import bisect
from segc.parity.bisect import Fault, Pattern
from segc.pipeline.first_difference import Snapshot
from segc.runtime.ort import outputs_of

Array = np.ndarray
_ROUNDED = 5e-2  # relative: what counts as wrong in an engine that rounds to fewer bits
_LEAST_SECONDS, _TIMES = 20.0, 50.0  # for an answer: so long at least, and so many times what ONNX Runtime takes


@dataclass(frozen=True)
class Engine:
    """A model that the target runs as a whole, with one input and one output. where: "" or the segment of a hybrid."""

    model: onnx.ModelProto
    x: Array
    where: str = ""


@dataclass(frozen=True)
class Found:
    """A part that the runtime computes wrongly. nodes: of the part, in running order. where: see Engine."""

    pattern: Pattern
    nodes: tuple[Node, ...]
    where: str


class RuntimePart:
    """Runs parts of a planned graph in its target's runtime. run: in place of the runtime, for tests."""

    def __init__(self, planned: Planned, end: float, run: bisect.Run | None = None) -> None:
        self._planned, self._end, self._run = planned, end, run
        setup = planned.setup
        rounded = setup.request.precision != "fp32"
        self.limit = _ROUNDED if rounded else min(bisect.LIMIT, setup.request.max_error or bisect.LIMIT)
        self.threads = max(setup.request.threads, 1) if setup.target.isolated else setup.request.threads

    def engines(self, x: Array) -> Iterator[Engine]:
        """What the target runs of the graph on the input `x`: the graph, or each output of its segments of a hybrid."""
        graph, plan = self._planned.graph, self._planned.plan
        if plan is None:
            yield Engine(ir.to_model(graph), x)
            return
        whole = Snapshot.of(graph)
        own = [(at, segment) for at, segment in enumerate(plan.segments) if not segment.on_host]
        names = dict.fromkeys(t.name for _, segment in own for t in segment.inputs)
        given = whole.model.graph.input[0].name
        values = whole.run_all({given: x}, [name for name in names if name != given]) | {given: x}
        for at, segment in own:
            model = model_of(graph, segment)
            for output in segment.outputs:
                engine = _with_one_input(model, output.name, values, graph)
                if engine is not None:
                    yield Engine(*engine, f"segment {at} of the hybrid")

    def fault(self, engine: Engine) -> Fault | None:
        """What is wrong with an engine as a whole; None if nothing is."""
        search = bisect.smallest_pattern(engine.model, engine.x, self._runner(engine), limit=self.limit, seconds=-1)
        return None if search is None else search.fault

    def run(self, engine: Engine) -> Array | Fault:
        """The engine's answer, or what the runtime did in its place."""
        try:
            return self._runner(engine)(engine.model, engine.x)
        except bisect.Failed as failed:
            return Fault(failed.kind, words=tuple(failed.words))

    def search(
        self, engine: Engine, *, refusals: bool, progress: Callable[[str], None], keep: Callable[[Found], None]
    ) -> Found | None:
        """The smallest part of an engine that the runtime is wrong on."""
        origins = nodes_of(self._planned.graph)

        def named(pattern: Pattern) -> Found:
            return Found(pattern, _named(pattern.model, origins), engine.where)

        pattern = bisect.smallest_pattern(
            engine.model, engine.x, self._runner(engine), limit=self.limit, refusals=refusals,
            seconds=self._end - time.monotonic(), progress=progress, keep=lambda each: keep(named(each)),
        )  # fmt: skip
        return None if pattern is None else named(pattern)

    def _runner(self, engine: Engine) -> bisect.Run:
        if self._run is not None:
            return self._run
        start = time.monotonic()
        native.call(outputs_of, engine.model.SerializeToString(), {engine.model.graph.input[0].name: engine.x})
        limit = max(_LEAST_SECONDS, _TIMES * (time.monotonic() - start))
        setup = self._planned.setup
        return bisect.in_child(setup.target, setup.settings, self.threads, limit)


def _named(model: onnx.ModelProto, known: Mapping[str, Node]) -> tuple[Node, ...]:
    made = [
        known.get(node.output[0], Node(node.name, node.op_type, "made for the segment")) for node in model.graph.node
    ]
    return tuple(dict.fromkeys(made))


def _with_one_input(
    model: onnx.ModelProto, output: str, values: Mapping[str, Array], graph: gs.Graph
) -> tuple[onnx.ModelProto, Array] | None:
    """A segment with one output, its greatest float input left open and the others constant. None without floats."""
    floats = [i.name for i in model.graph.input if values[i.name].dtype == np.float32 and values[i.name].ndim]
    if not floats:
        return None
    given = max(floats, key=lambda name: values[name].size)
    made = onnx.ModelProto.FromString(model.SerializeToString())
    if not made.functions:
        ir.add_functions(made, graph)
    for info in list(made.graph.input):
        if info.name != given:
            made.graph.initializer.append(onnx.numpy_helper.from_array(values[info.name], info.name))
            made.graph.input.remove(info)
    for info in list(made.graph.output):
        if info.name != output:
            made.graph.output.remove(info)
    return made, values[given]
