"""The tensors that enter and leave a set of nodes, and the shape arithmetic that every segment can repeat."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import onnx_graphsurgeon as gs

from segc.graph import ir
from segc.graph.analysis.liveness import activations
from segc.passes.support.op_sets import SHAPE_ARITHMETIC


class Dataflow:
    """Producers and readers of a graph's activations. A node is named by its key, `id(node)`."""

    def __init__(self, graph: gs.Graph) -> None:
        self.nodes = {id(node): node for node in graph.nodes}
        self._tensors = activations(graph)
        self._graph_inputs = {id(t) for t in graph.inputs}
        self._graph_outputs = {id(t) for t in graph.outputs}
        self._producer = {id(t): id(node) for node in graph.nodes for t in node.outputs if not t.is_empty()}
        self._reads = {id(node): self._activations(ir.reads(node)) for node in graph.nodes}
        self._readers: dict[int, set[int]] = {}
        for key, tensors in self._reads.items():
            for tensor in tensors:
                self._readers.setdefault(id(tensor), set()).add(key)

    def reads(self, key: int) -> list[gs.Variable]:
        """The activations that a node or its subgraphs read, each once."""
        return self._reads[key]

    def readers(self, tensor: gs.Tensor) -> set[int]:
        """The keys of the nodes that read a tensor."""
        return self._readers.get(id(tensor), set())

    def producer(self, tensor: gs.Tensor) -> int | None:
        """The key of the node that computes a tensor; None for an input of the graph."""
        return self._producer.get(id(tensor))

    def is_graph_io(self, tensor: gs.Tensor) -> bool:
        """Whether the tensor is an input or an output of the whole graph."""
        return id(tensor) in self._graph_inputs or id(tensor) in self._graph_outputs

    def is_graph_output(self, tensor: gs.Tensor) -> bool:
        """Whether the tensor is an output of the whole graph."""
        return id(tensor) in self._graph_outputs

    def inputs(self, inside: Collection[int]) -> list[gs.Variable]:
        """The tensors that the nodes read and do not compute, in graph order."""
        read = {id(t): t for key in self._ordered(inside) for t in self._reads[key]}
        return [t for t in read.values() if self.producer(t) not in inside]

    def outputs(self, inside: Collection[int]) -> list[gs.Variable]:
        """The tensors that the nodes compute and that others read or the graph returns, in graph order."""
        computed = [t for key in self._ordered(inside) for t in self.nodes[key].outputs if not t.is_empty()]
        return [t for t in computed if self.is_graph_output(t) or not self.readers(t) <= set(inside)]

    def _activations(self, tensors: Iterable[gs.Tensor]) -> list[gs.Variable]:
        return list({id(t): self._tensors[id(t)] for t in tensors if id(t) in self._tensors}.values())

    def _ordered(self, inside: Collection[int]) -> Iterable[int]:
        return (key for key in self.nodes if key in inside)


def repeatable_nodes(dataflow: Dataflow, runs_anywhere: Callable[[gs.Node], bool]) -> set[int]:
    """Arithmetic on the shapes of the graph's inputs, which every segment that needs it can compute for itself.

    runs_anywhere(node): whether every segment can run the node. Nodes that compute an output of the graph are left out.
    """
    repeatable: set[int] = set()
    for key, node in dataflow.nodes.items():
        producers = [dataflow.producer(t) for t in dataflow.reads(key)]
        reads_image = node.op in ("Shape", "Size") and all(producer is None for producer in producers)
        computed = bool(producers) and all(producer in repeatable for producer in producers)
        arithmetic = computed and node.op in SHAPE_ARITHMETIC
        small = all(t.shape is not None and len(t.shape) <= 1 and not dataflow.is_graph_output(t) for t in node.outputs)
        if (reads_image or arithmetic) and small and not node.domain and runs_anywhere(node):
            repeatable.add(key)
    return repeatable


def required_nodes(dataflow: Dataflow, inside: Iterable[int], among: Collection[int]) -> set[int]:
    """The nodes of `among` that the nodes `inside` depend on, directly or through others of `among`."""
    pending, required = list(inside), set()
    while pending:
        for tensor in dataflow.reads(pending.pop()):
            key = dataflow.producer(tensor)
            if key in among and key not in required:
                assert key is not None
                required.add(key)
                pending.append(key)
    return required
