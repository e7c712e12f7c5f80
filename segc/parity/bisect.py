"""Find the smallest part of a graph that a runtime computes wrongly.

First the graph is cut after a node halfway, then after one halfway through what is left, until the first value that the
runtime gets wrong is found. Then the node of that value is tried alone, on the numbers that ONNX Runtime gives it, and
with more and more of the nodes before it, until the runtime is wrong again.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import onnx.shape_inference

from segc.errors import Code, SegcError
from segc.isolation.session import IsolatedSession
from segc.runtime.ort import outputs_of
from segc.targets.protocol import Settings
from segc.targets.target import Target

LIMIT = 1e-3  # of the greatest number: what counts as wrong
SECONDS = 60.0  # for one answer of a runtime
MOST = 8  # nodes of a pattern
Array = np.ndarray
Run = Callable[[onnx.ModelProto, Array], Array]


@dataclass(frozen=True)
class Pattern:
    """The smallest part that is wrong. model: its one input is `x`; whatever else it reads is constant in it.

    error: relative to the greatest number; infinite for a crash or another shape. alone: False if only the whole graph
    up to there is wrong, and `model` is that.
    """

    model: onnx.ModelProto
    x: Array
    value: str
    error: float
    alone: bool

    @property
    def words(self) -> str:
        """Ops, size and error, in a line."""
        ops = [node.op_type for node in self.model.graph.node]
        size = "x".join(map(str, self.x.shape))
        how = f"relative error {self.error:.1e}" if np.isfinite(self.error) else "a crash, or another shape"
        if self.alone:
            return f"the smallest pattern found: {', '.join(ops)} on {size} ('{self.value}', {how})"
        return f"the first wrong value found: '{self.value}' of {ops[-1]}, which is right on its own ({how})"


def in_child(target: Target, settings: Settings, threads: int, seconds: float = SECONDS) -> Run:
    """Emit and run models with `target`, each in a child process of its own. Raises SegcError."""

    def run(model: onnx.ModelProto, x: Array) -> Array:
        with tempfile.TemporaryDirectory() as folder:
            emitted = target.emit(onnx.ModelProto.FromString(model.SerializeToString()), Path(folder), settings)
            session = IsolatedSession(target.name, Path(folder), emitted.options, threads, seconds)
            try:
                return session.run(x)
            finally:
                session.close()

    return run


def smallest_pattern(
    model: onnx.ModelProto, x: Array, run: Run, *, limit: float = LIMIT, seconds: float = 300.0
) -> Pattern | None:
    """The smallest part of `model` that `run` computes wrongly on the input `x`; None if no value is wrong.

    model: standard ONNX with one input and one output. limit: relative error that counts as wrong. seconds: no new
    trial starts after them, and what was found until then is returned.
    """
    search = _Search(model, x, run, limit, time.monotonic() + seconds)
    first = search.first_wrong()
    return None if first is None else search.around(first)


class _Search:
    def __init__(self, model: onnx.ModelProto, x: Array, run: Run, limit: float, end: float) -> None:
        self.model = onnx.shape_inference.infer_shapes(model)
        self.x, self.run, self.limit, self.end = x, run, limit, end
        graph = self.model.graph
        self.given = graph.input[0].name
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.made: dict[str, int] = {name: at for at, node in enumerate(graph.node) for name in node.output if name}
        kinds = {i.name: i.type.tensor_type.elem_type for i in (*graph.value_info, *graph.output)}
        self.values: list[str] = [name for name in self.made if kinds.get(name) == onnx.TensorProto.FLOAT]
        self.right: dict[str, Array] = {}

    def first_wrong(self) -> str | None:
        """Bisect: a value that is wrong although one before it is right."""
        low, high = -1, len(self.values) - 1
        if high < 0 or not self._is_wrong(self._prefix(self.values[high])):
            return None
        while high - low > 1 and time.monotonic() < self.end:
            middle = (low + high) // 2
            nearest = sorted(range(low + 1, high), key=lambda at: abs(at - middle))
            for at in nearest[:MOST]:
                wrong = self._is_wrong(self._prefix(self.values[at]))
                if wrong is not None:
                    low, high = (low, at) if wrong else (at, high)
                    break
            else:
                break  # no value near the middle can be cut off
        return self.values[high]

    def around(self, value: str) -> Pattern:
        """Grow backwards from the node that makes a value until the part is wrong, then drop what need not be there."""
        for nodes in self._growing(value):
            if time.monotonic() > self.end or len(nodes) > MOST:
                break
            part = self._part(nodes, value)
            if part is not None and self._is_wrong(part):
                return self._smaller(nodes, value, part)
        model, x = self._prefix(value)
        return Pattern(model, x, value, self._error((model, x)) or np.inf, alone=False)

    def _smaller(self, nodes: Sequence[int], value: str, part: tuple[onnx.ModelProto, Array]) -> Pattern:
        kept = list(nodes)
        for node in sorted(nodes)[:-1]:
            fewer = [other for other in kept if other != node]
            smaller = self._part(fewer, value) if time.monotonic() < self.end else None
            if smaller is not None and self._is_wrong(smaller):
                kept, part = fewer, smaller
        return Pattern(*part, value, self._error(part) or np.inf, alone=True)

    def _growing(self, value: str) -> Iterator[list[int]]:
        """The node of a value, then with one more of the nodes before it at a time, the nearest first."""
        nodes, waiting = [], [self.made[value]]
        while waiting:
            at = waiting.pop(0)
            if at in nodes:
                continue
            nodes.append(at)
            yield sorted(nodes)
            waiting += [self.made[name] for name in self.model.graph.node[at].input if name in self.made]

    def _prefix(self, value: str) -> tuple[onnx.ModelProto, Array]:
        """The graph up to a value."""
        needed, waiting = set[int](), [self.made[value]]
        while waiting:
            at = waiting.pop()
            if at not in needed:
                needed.add(at)
                waiting += [self.made[name] for name in self.model.graph.node[at].input if name in self.made]
        return self._model(sorted(needed), value, self.model.graph.input[0], {}), self.x

    def _part(self, nodes: Sequence[int], value: str) -> tuple[onnx.ModelProto, Array] | None:
        """Some nodes as a model. Its input is the greatest float that they read; the others become constants."""
        graph = self.model.graph
        inside = {name for at in nodes for name in graph.node[at].output}
        if value not in inside or not all(self._is_used(at, nodes, value) for at in nodes):
            return None
        read = dict.fromkeys(name for at in nodes for name in graph.node[at].input if name)
        outside = [name for name in read if name not in inside and name not in self.constants]
        known = self._known(outside)
        floats = [name for name in outside if known[name].dtype == np.float32 and known[name].ndim]
        if not floats:
            return None
        given = max(floats, key=lambda name: known[name].size)
        x = known.pop(given)
        info = onnx.helper.make_tensor_value_info(given, onnx.TensorProto.FLOAT, x.shape)
        return self._model(nodes, value, info, known), x

    def _is_used(self, at: int, nodes: Sequence[int], value: str) -> bool:
        """Whether something in the part reads the node, or it makes the value."""
        outputs = set(self.model.graph.node[at].output)
        return value in outputs or any(outputs & set(self.model.graph.node[other].input) for other in nodes)

    def _known(self, names: Sequence[str]) -> dict[str, Array]:
        """What ONNX Runtime computes for values."""
        if missing := [name for name in names if name not in self.right and name != self.given]:
            model = onnx.ModelProto.FromString(self.model.SerializeToString())
            del model.graph.output[:]
            model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in missing)
            self.right |= outputs_of(model.SerializeToString(), {self.given: self.x})
        return {name: self.x if name == self.given else self.right[name] for name in names}

    def _model(
        self, nodes: Sequence[int], value: str, given: onnx.ValueInfoProto, constants: Mapping[str, Array]
    ) -> onnx.ModelProto:
        chosen = [self.model.graph.node[at] for at in nodes]
        read = {name for node in chosen for name in node.input}
        kept = [tensor for name, tensor in self.constants.items() if name in read]
        kept += [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
        result = onnx.helper.make_tensor_value_info(value, onnx.TensorProto.FLOAT, None)
        graph = onnx.helper.make_graph(chosen, "part", [given], [result], kept)
        imports = list(self.model.opset_import)
        made = onnx.helper.make_model(graph, opset_imports=imports, ir_version=self.model.ir_version)
        return onnx.shape_inference.infer_shapes(made, data_prop=True)

    def _is_wrong(self, part: tuple[onnx.ModelProto, Array]) -> bool | None:
        """Whether the runtime is wrong on a part; None if it does not take it."""
        error = self._error(part)
        return None if error is None else not error <= self.limit

    def _error(self, part: tuple[onnx.ModelProto, Array]) -> float | None:
        model, x = part
        try:
            (want,) = outputs_of(model.SerializeToString(), {model.graph.input[0].name: x}).values()
        except Exception:  # it has one exception class for each reason
            return None
        try:
            got = self.run(model, x)
        except SegcError as error:
            return np.inf if error.code is Code.ENGINE_PROCESS else None
        if got.shape != want.shape or not np.isfinite(want).all():
            return np.inf if got.shape != want.shape else None
        greatest = max(float(np.abs(want).max(initial=0.0)), float(np.finfo(np.float32).tiny))
        difference = float(np.abs(got.astype(np.float64) - want).max(initial=0.0))
        return difference / greatest if np.isfinite(difference) else np.inf
