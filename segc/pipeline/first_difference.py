"""Two states of one graph on the same input: whether they agree, and the first tensor where they do not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from segc.passes.support import evaluate

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Difference:
    """Where and by how much: the tensor, an index in it, both values there, and the relative error over all of it."""

    tensor: str
    at: tuple[int, ...]
    before: float
    after: float
    error: float

    def __str__(self) -> str:
        where = f"'{self.tensor}'[{', '.join(map(str, self.at))}]"
        return f"{where} was {self.before:.9g} and is {self.after:.9g}; relative error {self.error:.2e}"


@dataclass(frozen=True)
class Snapshot:
    """A graph at one moment. Weights are shared with the graph, so it costs the graph's structure only."""

    model: onnx.ModelProto
    weights: Arrays

    @classmethod
    def of(cls, graph: gs.Graph) -> Snapshot:
        """Take one."""
        return cls(*evaluate.runnable_model(graph))

    def run(self, feeds: Arrays) -> dict[str, np.ndarray]:
        """The outputs by name. Raises evaluate.CannotRun."""
        return evaluate.run_model(self.model, {**self.weights, **feeds})

    def tensors(self) -> dict[str, onnx.ValueInfoProto]:
        """What nodes write, in order, where its type is known."""
        known = {i.name: i for i in [*self.model.graph.value_info, *self.model.graph.output]}
        written = [name for node in self.model.graph.node for name in node.output]
        return {name: known[name] for name in written if name in known}

    def written(self) -> dict[str, bytes]:
        """What nodes write -> how: op, attributes and names of the inputs."""
        made = {}
        for node in self.model.graph.node:
            bare = onnx.NodeProto(op_type=node.op_type, domain=node.domain, input=node.input, attribute=node.attribute)
            made.update(dict.fromkeys(node.output, bare.SerializeToString(deterministic=True)))
        return made

    def run_all(self, feeds: Arrays, names: list[str]) -> dict[str, np.ndarray]:
        """These tensors' values, inner ones too."""
        model, known = onnx.ModelProto(), self.tensors()
        model.CopyFrom(self.model)
        del model.graph.output[:]
        model.graph.output.extend(known[name] for name in names)
        return evaluate.run_model(model, {**self.weights, **feeds})


def first_difference(before: Snapshot, after: Snapshot, feeds: Arrays, tolerance: float) -> Difference | None:
    """The first tensor, in the order of `after`, that differs by more than `tolerance` though it should not.

    Compared are results of nodes that read the same names with the same op and attributes as before, and outputs of the
    graph. Other tensors may have a new meaning under an old name: a Conv that took in a BatchNormalization.
    """
    old, new = before.written(), after.written()
    outputs = {o.name for o in after.model.graph.output}
    common = [name for name in new if name in old and (name in outputs or old[name] == new[name])]
    known = [name for name in common if name in before.tensors() and name in after.tensors()]
    if not known:
        return None
    was, now = before.run_all(feeds, known), after.run_all(feeds, known)
    found = (difference(name, was[name], now[name]) for name in known)
    return next((d for d in found if d is not None and d.error > tolerance), None)


class Runs(Protocol):
    """What gives outputs for inputs."""

    def run(self, feeds: Arrays) -> dict[str, np.ndarray]:
        """The outputs by name."""


def rounding(snapshot: Runs, feeds: Arrays, outputs: Arrays) -> float:
    """How far the outputs move, relative to their largest value, when float inputs move by one unit in the last place.

    Two graphs that are equal in real numbers cannot be expected to agree any better.
    """
    rng, worst = np.random.default_rng(0), 0.0
    for _ in range(3):
        moved = {k: _nudged(v, rng) if v.dtype.kind == "f" else v for k, v in feeds.items()}
        got = snapshot.run(moved)
        found = (difference(name, value, got[name]) for name, value in outputs.items())
        worst = max([worst, *(d.error for d in found if d is not None and np.isfinite(d.error))])
    return worst


def _nudged(value: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    direction = np.where(rng.integers(0, 2, value.shape), np.inf, -np.inf).astype(value.dtype)
    return np.asarray(np.nextafter(value, direction))


def difference(name: str, before: np.ndarray, after: np.ndarray) -> Difference | None:
    """How two values of one tensor differ most; None where they are equal or cannot be compared element by element."""
    if before.shape != after.shape or before.dtype != after.dtype or before.dtype.kind not in "fiub":
        return None
    a, b = np.atleast_1d(before.astype(np.float64)), np.atleast_1d(after.astype(np.float64))
    with np.errstate(invalid="ignore"):  # infinity minus infinity, where both are equal
        apart = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
    apart = np.where(np.isnan(apart), np.inf, apart)
    if not apart.any():
        return None
    at = tuple(int(i) for i in np.unravel_index(int(apart.argmax()), apart.shape))
    scale = float(np.abs(a[np.isfinite(a)]).max(initial=0.0)) or 1.0
    return Difference(name, at[: before.ndim], float(a[at]), float(b[at]), float(apart[at]) / scale)
