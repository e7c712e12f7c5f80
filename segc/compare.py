"""Two states of one graph on the same input: whether they agree, and the first tensor where they do not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from segc.passes import evaluate

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

    def run_all(self, feeds: Arrays, names: list[str]) -> dict[str, np.ndarray]:
        """These tensors' values, inner ones too."""
        model, known = onnx.ModelProto(), self.tensors()
        model.CopyFrom(self.model)
        del model.graph.output[:]
        model.graph.output.extend(known[name] for name in names)
        return evaluate.run_model(model, {**self.weights, **feeds})


def first_difference(before: Snapshot, after: Snapshot, feeds: Arrays, tolerance: float) -> Difference | None:
    """The first tensor, in the order of `after`, that both write and that differs by more than `tolerance`."""
    common = [name for name in after.tensors() if name in before.tensors()]
    if not common:
        return None
    old, new = before.run_all(feeds, common), after.run_all(feeds, common)
    found = (difference(name, old[name], new[name]) for name in common)
    return next((d for d in found if d is not None and d.error > tolerance), None)


def difference(name: str, before: np.ndarray, after: np.ndarray) -> Difference | None:
    """How two values of one tensor differ most; None where they are equal or cannot be compared element by element."""
    if before.shape != after.shape or before.dtype != after.dtype or before.dtype.kind not in "fiub":
        return None
    a, b = np.atleast_1d(before.astype(np.float64)), np.atleast_1d(after.astype(np.float64))
    apart = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
    apart = np.where(np.isnan(apart), np.inf, apart)
    if not apart.any():
        return None
    at = tuple(int(i) for i in np.unravel_index(int(apart.argmax()), apart.shape))
    scale = float(np.abs(a[np.isfinite(a)]).max(initial=0.0)) or 1.0
    return Difference(name, at[: before.ndim], float(a[at]), float(b[at]), float(apart[at]) / scale)
