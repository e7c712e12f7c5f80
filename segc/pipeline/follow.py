"""A hook that follows one node through a pipeline: what each pass did to it, and to the nodes that took its place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from segc.errors import Code, UsageError
from segc.graph import ir, source_info
from segc.passes.base import PassResult
from segc.pipeline.hooks import Silent
from segc.pipeline.pipeline import Entry
from segc.suggestions import did_you_mean

_SHOWN = 6  # nodes named in an event
_SMALL = 8  # elements of a constant that are shown


class Follow(Silent):
    """Follows the node called `name`, or the one that makes the tensor of that name.

    first: its op at the start. what: it and where it comes from. nodes: what is left of it. Nodes in subgraphs are not
    followed.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.first = self.what = ""
        self.nodes: list[gs.Node] = []
        self._events: list[tuple[str, str]] = []
        self._before: dict[int, gs.Node] = {}  # the nodes of the graph; kept, so that no id is given away
        self._looks: dict[int, str] = {}
        self._places: dict[int, _Places] = {}

    def start(self, graph: gs.Graph) -> None:
        """Find the node in a graph. Raises UsageError."""
        node = find(graph, self._name)
        self.nodes, self.first = [node], f"{node.domain}::{node.op}" if node.domain else str(node.op)
        self.what = f"{_look(node)}, '{node.name}', {source_info.of(node)}"
        self._remember(graph)

    def settle(self, graph: gs.Graph, step: str) -> None:
        """Note what has changed since the last call; step: who changed it."""
        self.nodes = [left for node in self.nodes for left in self._left_of(node, graph, step)]
        self._remember(graph)

    def before(self, entry: Entry, graph: gs.Graph) -> None:
        """Remember the graph; before the first pass find the node, unless `start` did."""
        if not self.first:
            self.start(graph)
        self._remember(graph)

    def after(self, entry: Entry, graph: gs.Graph, result: PassResult) -> None:
        """Note what changed, and what was left alone for a reason."""
        followed = {node.name for node in self.nodes}
        self._events += [
            (entry.step.name, f"leaves '{skip.node}' alone: {skip.reason}")
            for skip in result.skips
            if skip.node in followed
        ]
        if result.changes:
            self.settle(graph, entry.step.name)

    def lines(self) -> list[str]:
        """Everything that happened, once each: 'PASS WHAT'."""
        return list(dict.fromkeys(f"{step} {what}" for step, what in self._events))

    def _remember(self, graph: gs.Graph) -> None:
        self._before = {id(node): node for node in graph.nodes}
        self._looks = {id(node): _look(node) for node in self.nodes}
        self._places = {id(node): _Places(node, graph) for node in self.nodes}

    def _left_of(self, node: gs.Node, graph: gs.Graph, step: str) -> list[gs.Node]:
        """The node itself if it is still there, else the new nodes that make what was read of it."""
        if any(node is each for each in graph.nodes):
            if (look := _look(node)) != self._looks[id(node)]:
                self._events.append((step, f"changes {self._looks[id(node)]} to {look}"))
            return [node]
        now = self._places[id(node)].now(graph)
        makers = [maker for tensor in now for maker in tensor.inputs]
        if new := self._new(makers):
            self._events.append((step, f"replaces {node.op} '{node.name}' by {_named(new)}"))
            return new
        rest = f"in its place stands {', '.join(map(_text, now))}" if now else "nothing that is left reads it"
        self._events.append((step, f"removes {node.op} '{node.name}': {rest}"))
        return []

    def _new(self, ends: Sequence[gs.Node]) -> list[gs.Node]:
        """The new nodes that `ends` are computed from, themselves included, in running order."""
        found, todo = dict[int, gs.Node](), list(ends)
        while todo:
            node = todo.pop()
            if id(node) not in self._before and id(node) not in found:
                found[id(node)] = node
                todo += [maker for tensor in ir.reads(node) for maker in tensor.inputs]
        return list(reversed(found.values()))


class _Places:
    """Where the outputs of a node are read: inputs of nodes, outputs of the graph."""

    def __init__(self, node: gs.Node, graph: gs.Graph) -> None:
        own = {id(tensor) for tensor in node.outputs}
        self._inputs = [
            (reader, at)
            for reader in {id(r): r for tensor in node.outputs for r in tensor.outputs}.values()
            for at, tensor in enumerate(reader.inputs)
            if id(tensor) in own
        ]
        self._results = [at for at, tensor in enumerate(graph.outputs) if id(tensor) in own]

    def now(self, graph: gs.Graph) -> list[gs.Tensor]:
        """The tensors that are read there now."""
        present = {id(node) for node in graph.nodes}
        read = [r.inputs[at] for r, at in self._inputs if id(r) in present and at < len(r.inputs)]
        read += [graph.outputs[at] for at in self._results if at < len(graph.outputs)]
        return list({id(tensor): tensor for tensor in read}.values())


def find(graph: gs.Graph, name: str) -> gs.Node:
    """The node of this name, or the one that makes the tensor of this name. Raises UsageError."""
    for node in graph.nodes:
        if node.name == name or any(tensor.name == name for tensor in node.outputs):
            return node
    known = {node.name for node in graph.nodes if node.name} | {t.name for n in graph.nodes for t in n.outputs}
    raise UsageError(
        f"the graph has no node '{name}'", code=Code.UNKNOWN_NAME,
        because=f"none of its {len(graph.nodes)} nodes has this name or makes a tensor of this name",
        so=did_you_mean(name, known) or "`segc inspect FILE --origins` lists the nodes",
    )  # fmt: skip


def _look(node: gs.Node) -> str:
    """The op and what it reads: small constants by value, the rest by name."""
    return f"{node.op}({', '.join(map(_text, node.inputs))})"


def _text(tensor: gs.Tensor) -> str:
    value = ir.constant(tensor)
    if value is None:
        return tensor.name or "-"
    array = np.asarray(value)
    return str(array.tolist()) if array.size <= _SMALL else f"{array.dtype}{list(array.shape)}"


def _named(nodes: Sequence[gs.Node]) -> str:
    shown = ", ".join(f"{node.op} '{node.name}'" if len(nodes) == 1 else str(node.op) for node in nodes[:_SHOWN])
    return shown + (f" and {len(nodes) - _SHOWN} more" if len(nodes) > _SHOWN else "")
