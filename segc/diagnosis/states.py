"""The states of a graph between the passes of a pipeline, and the pass after which its numbers are wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from segc.graph import source_info
from segc.passes.base import PassResult
from segc.passes.support import evaluate
from segc.pipeline.first_difference import Snapshot, difference, rounding
from segc.pipeline.hooks import Silent
from segc.pipeline.pipeline import Entry

Array = np.ndarray
Inputs = Callable[[onnx.ModelProto], Mapping[str, Array]]
_FLOAT_ERROR = 1e-5  # relative; what rewrites that are equal in real numbers may differ by at least


@dataclass(frozen=True)
class Node:
    """A node of a state. origin: the torch line and module that it comes from."""

    name: str
    op: str
    origin: str

    def __str__(self) -> str:
        """Op, name and origin."""
        return f"{self.op} '{self.name}', {self.origin}"


@dataclass(frozen=True)
class State:
    """The graph after a pass; entry: None for the graph before the first. nodes: by the tensors that they write."""

    entry: Entry | None
    snapshot: Snapshot
    nodes: Mapping[str, Node]


@dataclass
class States(Silent):
    """A hook that remembers the graph before the first pass and after each that changed it. Weights are shared.

    running: the pass that has begun, and has not ended if it raised.
    """

    found: list[State] = field(default_factory=list)
    running: Entry | None = None
    _weights: dict[str, Array] = field(default_factory=dict)

    def before(self, entry: Entry, graph: gs.Graph) -> None:
        """Remember the first graph."""
        self.running = entry
        if entry.index == 0:
            self._add(None, graph)

    def after(self, entry: Entry, graph: gs.Graph, result: PassResult) -> None:
        """Remember the graph where it changed."""
        self.running = None
        if result.changes:
            self._add(entry, graph)

    def _add(self, entry: Entry | None, graph: gs.Graph) -> None:
        taken = Snapshot.of(graph)
        self.found.append(State(entry, Snapshot(taken.model, self._shared(taken.weights)), nodes_of(graph)))

    def _shared(self, weights: Mapping[str, Array]) -> dict[str, Array]:
        """The arrays that earlier states have, where they are equal: weights are often copied out of the graph."""
        for name, array in weights.items():
            known = self._weights.get(name)
            if known is None or known.dtype != array.dtype or not np.array_equal(known, array):
                self._weights[name] = array
        return {name: self._weights[name] for name in weights}


def nodes_of(graph: gs.Graph) -> dict[str, Node]:
    """Every node by the tensors that it writes."""
    return {
        tensor.name: Node(node.name, str(node.op), str(source_info.of(node)))
        for node in graph.nodes
        for tensor in node.outputs
    }


def first_wrong(states: Sequence[State], is_wrong: Callable[[State], bool], progress: Callable[[str], None]) -> int:
    """The number of a state that is wrong although the one before it is right, by bisection.

    The first state must be right, and the last wrong.
    """
    low, high = 0, len(states) - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_wrong(states[middle]) else (middle, high)
        progress(f"right before {states[low + 1].entry}, wrong after {states[high].entry}")
    return high


@dataclass(frozen=True)
class Region:
    """The part of a graph that a pass left with other numbers.

    before, after: models of it, with equal inputs. inputs: by name. expected: what `before` gives for them. error:
    relative to the greatest number. nodes: those of `after`, in running order.
    """

    value: str
    before: onnx.ModelProto
    after: onnx.ModelProto
    inputs: Mapping[str, Array]
    expected: Array
    error: float
    nodes: tuple[Node, ...]


def region(before: State, after: State, inputs: Inputs) -> Region | None:
    """The smallest part, between tensors that both states have, in which `after` computes other numbers than `before`.

    None where they have no tensor in common that differs. Raises evaluate.CannotRun.
    """
    old, new = _Values(before, inputs), _Values(after, inputs)
    common = [name for name in new.names if name in old.names]
    was, now = old.of(common), new.of(common)
    apart = {name: _error(name, was[name], now[name]) for name in common}
    limit = max(_FLOAT_ERROR, 20 * _rounding(before, inputs))
    wrong = {name for name, error in apart.items() if error > limit}
    equal = set(common) - wrong
    value = _first(after.snapshot.model, wrong, equal)
    if value is None:
        return None
    parts = (_closure(before.snapshot, value, equal), _closure(after.snapshot, value, equal))
    given = {i.name for model in parts for i in model.graph.input}
    feeds = {**new.feeds, **now}
    kept = {name: np.asarray(feeds[name]) for name in sorted(given) if name in feeds}
    made = [after.nodes[n.output[0]] for n in parts[1].graph.node if n.output[0] in after.nodes]
    return Region(value, parts[0], parts[1], kept, was[value], apart[value], tuple(dict.fromkeys(made)))


class _Values:
    """Inner tensors of a state, on its inputs."""

    def __init__(self, state: State, inputs: Inputs) -> None:
        self._snapshot, self.feeds = state.snapshot, dict(inputs(state.snapshot.model))
        self.names = state.snapshot.tensors()

    def of(self, names: list[str]) -> dict[str, Array]:
        return self._snapshot.run_all(self.feeds, names) if names else {}


def _rounding(state: State, inputs: Inputs) -> float:
    feeds = dict(inputs(state.snapshot.model))
    return rounding(state.snapshot, feeds, state.snapshot.run(feeds))


def _error(name: str, was: Array, now: Array) -> float:
    if was.shape != now.shape or was.dtype.kind != now.dtype.kind:
        return np.inf
    found = difference(name, was.astype(np.float64), now.astype(np.float64))
    return 0.0 if found is None else found.error


def _first(model: onnx.ModelProto, wrong: set[str], equal: set[str]) -> str | None:
    """The first wrong tensor that a wrong output is computed from, through wrong and new tensors only.

    A tensor with a new meaning under its old name, such as the result of a Conv that took in a BatchNormalization, is
    no fault: what is computed from it is equal again.
    """
    reached = unequal(model, equal)
    ordered = [name for node in model.graph.node for name in node.output if name in reached & wrong]
    return ordered[0] if ordered else None


def unequal(model: onnx.ModelProto, equal: set[str]) -> set[str]:
    """The tensors that an output is computed from, the outputs too, without passing through one that is equal."""
    made = {name: node for node in model.graph.node for name in node.output}
    waiting = [output.name for output in model.graph.output if output.name not in equal]
    seen = set[str]()
    while waiting:
        name = waiting.pop()
        if name not in seen and name in made:
            seen.add(name)
            waiting += [each for each in made[name].input if each not in equal]
    return seen


def _closure(snapshot: Snapshot, value: str, known: set[str]) -> onnx.ModelProto:
    """What a value is computed from, as a model whose inputs are known tensors. Weights are inside."""
    model = snapshot.model
    made = {name: node for node in model.graph.node for name in node.output}
    needed, waiting, read = list[onnx.NodeProto](), [value], dict[str, None]()
    while waiting:
        node = made[waiting.pop()]
        if any(node is each for each in needed):
            continue
        needed.append(node)
        for name in filter(None, node.input):
            if name in made and name not in known:
                waiting.append(name)
            else:
                read[name] = None
    chosen = [node for node in model.graph.node if any(node is each for each in needed)]
    constants = [tensor for tensor in model.graph.initializer if tensor.name in read]
    weights = snapshot.weights
    constants += [onnx.numpy_helper.from_array(weights[name], name) for name in read if name in weights]
    inside = {tensor.name for tensor in constants}
    infos = {i.name: i for i in (*model.graph.value_info, *model.graph.input, *model.graph.output)}
    inputs = [infos[name] for name in read if name not in inside and name in infos]
    graph = onnx.helper.make_graph(chosen, "part", inputs, [infos[value]], constants)
    made_model = onnx.helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=model.ir_version)
    made_model.functions.extend(model.functions)
    return made_model


__all__ = ["CannotRun", "Node", "Region", "State", "States", "first_wrong", "nodes_of", "region", "unequal"]
CannotRun = evaluate.CannotRun
