"""What becomes of a graph's nodes in the opset of a target's files, where the graph as a whole has no form there.

One node without an older form keeps the whole graph at its opset (passes/legalize/lower_opset.py). Its other nodes are
then judged by what becomes of each alone, and segments made of them are spelled one by one, each in an opset of its
own.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_graphsurgeon as gs

from segc.graph import ir, source_info
from segc.graph.analysis.liveness import activations
from segc.passes.base import Skip
from segc.pipeline import stages
from segc.targets.target import Target


def pending(graph: gs.Graph, target: Target) -> bool:
    """Whether the graph is newer than the files that the target writes."""
    return target.file_opset is not None and int(graph.opset) > target.file_opset


def part_of(
    graph: gs.Graph, nodes: Sequence[gs.Node], inputs: Sequence[gs.Variable], outputs: Sequence[gs.Variable]
) -> gs.Graph:
    """These nodes as a graph of their own. Nodes and tensors are copies, weights are shared."""
    part = gs.Graph(
        nodes=list(nodes), inputs=list(inputs), outputs=list(outputs), name=graph.name, opset=graph.opset,
        import_domains=graph.import_domains, ir_version=graph.ir_version,
    )  # fmt: skip
    copy = part.copy()
    for made, node in zip(copy.nodes, nodes, strict=True):
        source_info.put(made, source_info.of(node))
    return copy


def spell(part: gs.Graph, target: Target) -> list[Skip]:
    """Run the target's last passes on a graph, in place; returns what they left alone."""
    results = stages.chosen(f"{target.name} segment", target.segment_passes).run(part)
    return [skip for result in results for skip in result.skips]


class Judge:
    """Which nodes of a graph a target runs: as they stand, or in a pending graph as each is spelled alone."""

    def __init__(self, graph: gs.Graph, target: Target) -> None:
        self._graph, self._target = graph, target
        self._alone = pending(graph, target)
        self._activations = activations(graph) if self._alone else {}
        self._found: dict[int, str | None] = {}

    @property
    def nodes(self) -> list[gs.Node]:
        """The nodes to ask about. A node with subgraphs answers for them when it is spelled."""
        return list(self._graph.nodes) if self._alone else list(ir.nodes(self._graph))

    def why_not(self, node: gs.Node) -> str | None:
        """The first reason why the target does not run `node`, or None. Cost: the last passes, on one node."""
        if not self._alone:
            return self._target.why_not(node)
        if id(node) not in self._found:
            self._found[id(node)] = self._spelled_alone(node)
        return self._found[id(node)]

    def accepts(self, node: gs.Node) -> bool:
        """Whether the target runs a node and all nodes in its subgraphs."""
        inner = [] if self._alone else [each for subgraph in node.subgraphs() for each in ir.nodes(subgraph)]
        return all(self.why_not(each) is None for each in [node, *inner])

    def _spelled_alone(self, node: gs.Node) -> str | None:
        read = {id(t): self._activations[id(t)] for t in ir.reads(node) if id(t) in self._activations}
        part = part_of(self._graph, [node], list(read.values()), [t for t in node.outputs if not t.is_empty()])
        skips = spell(part, self._target)
        if pending(part, self._target):
            unknown = None if node.op in self._target.ops else self._target.why_not(node)
            return unknown or next(
                (skip.reason for skip in skips), f"it has no form in opset {self._target.file_opset}"
            )
        return next((why for each in ir.nodes(part) if (why := self._target.why_not(each))), None)
