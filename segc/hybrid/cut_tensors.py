"""Which tensors go into and out of a set of nodes, and which nodes are shape arithmetic that any set may repeat."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import onnx_graphsurgeon as gs

from segc.graph import ir
from segc.graph.analysis.liveness import activations
from segc.passes.inputs.specialize_shapes import ARITHMETIC


class Borders:
    """Producers and readers of the activations of a graph; sets of nodes are sets of `id(node)`."""

    def __init__(self, graph: gs.Graph) -> None:
        self.nodes = {id(node): node for node in graph.nodes}
        self._tensors = activations(graph)
        self._given = {id(t) for t in graph.inputs}
        self._kept = {id(t) for t in graph.outputs}
        self._producer = {id(t): id(node) for node in graph.nodes for t in node.outputs if not t.is_empty()}
        self._reads = {id(node): self._activations(ir.reads(node)) for node in graph.nodes}
        self._readers: dict[int, set[int]] = {}
        for key, tensors in self._reads.items():
            for tensor in tensors:
                self._readers.setdefault(id(tensor), set()).add(key)

    def reads(self, key: int) -> list[gs.Variable]:
        """The activations a node reads, in itself or in its subgraphs, each once."""
        return self._reads[key]

    def readers(self, tensor: gs.Tensor) -> set[int]:
        """The nodes that read a tensor."""
        return self._readers.get(id(tensor), set())

    def producer(self, tensor: gs.Tensor) -> int | None:
        """The node that writes a tensor, None for an input of the graph."""
        return self._producer.get(id(tensor))

    def outer(self, tensor: gs.Tensor) -> bool:
        """Whether it is an input or an output of the whole graph."""
        return id(tensor) in self._given or id(tensor) in self._kept

    def kept(self, tensor: gs.Tensor) -> bool:
        """Whether it is an output of the whole graph."""
        return id(tensor) in self._kept

    def inputs(self, inside: Collection[int]) -> list[gs.Variable]:
        """What the nodes read and do not write, in the order of the graph."""
        read = {id(t): t for key in self._ordered(inside) for t in self._reads[key]}
        return [t for t in read.values() if self.producer(t) not in inside]

    def outputs(self, inside: Collection[int]) -> list[gs.Variable]:
        """What the nodes write and others read, or the whole graph gives, in the order of the graph."""
        made = [t for key in self._ordered(inside) for t in self.nodes[key].outputs if not t.is_empty()]
        return [t for t in made if self.kept(t) or not self.readers(t) <= set(inside)]

    def _activations(self, tensors: Iterable[gs.Tensor]) -> list[gs.Variable]:
        return list({id(t): self._tensors[id(t)] for t in tensors if id(t) in self._tensors}.values())

    def _ordered(self, inside: Collection[int]) -> Iterable[int]:
        return (key for key in self.nodes if key in inside)


def repeatable(borders: Borders, may: Callable[[gs.Node], bool]) -> set[int]:
    """Arithmetic on the shapes of the graph's inputs: every segment that needs it can compute it for itself.

    may(node): whether every segment can run the node. What the graph itself gives is not among them.
    """
    found: set[int] = set()
    for key, node in borders.nodes.items():
        producers = [borders.producer(t) for t in borders.reads(key)]
        of_image = node.op in ("Shape", "Size") and all(producer is None for producer in producers)
        of_sizes = node.op in ARITHMETIC and bool(producers) and all(producer in found for producer in producers)
        small = all(t.shape is not None and len(t.shape) <= 1 and not borders.kept(t) for t in node.outputs)
        if (of_image or of_sizes) and small and not node.domain and may(node):
            found.add(key)
    return found


def needed(borders: Borders, inside: Iterable[int], among: Collection[int]) -> set[int]:
    """The nodes of `among` that the nodes read from, directly or through others of `among`."""
    pending, found = list(inside), set()
    while pending:
        for tensor in borders.reads(pending.pop()):
            key = borders.producer(tensor)
            if key in among and key not in found:
                assert key is not None
                found.add(key)
                pending.append(key)
    return found
