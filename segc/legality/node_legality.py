"""Per-node legality, also where the whole graph cannot be converted to the opset of the target's files.

A single node without a form in that opset keeps the whole graph at its newer one (passes/legalize/lower_opset.py).
Every other node is then checked by converting it on its own, and segments are converted one by one.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_graphsurgeon as gs

from segc.graph import ir, source_info
from segc.graph.analysis.liveness import activations
from segc.passes.base import Skip
from segc.pipeline import stages
from segc.targets.target import Target


def is_newer_than_files(graph: gs.Graph, target: Target) -> bool:
    """Whether the graph's opset is newer than that of the files that the target writes."""
    return target.file_opset is not None and int(graph.opset) > target.file_opset


def subgraph(
    graph: gs.Graph, nodes: Sequence[gs.Node], inputs: Sequence[gs.Variable], outputs: Sequence[gs.Variable]
) -> gs.Graph:
    """The nodes as a graph of their own. Nodes and tensors are copies; weights are shared."""
    part = gs.Graph(
        nodes=list(nodes), inputs=list(inputs), outputs=list(outputs), name=graph.name, opset=graph.opset,
        import_domains=graph.import_domains, ir_version=graph.ir_version,
    )  # fmt: skip
    copy = part.copy()
    for copied, node in zip(copy.nodes, nodes, strict=True):
        source_info.put(copied, source_info.of(node))
    return copy


def run_segment_passes(part: gs.Graph, target: Target) -> list[Skip]:
    """Run the target's passes for segments on a graph, in place; returns the sites they left alone."""
    results = stages.segment(target).run(part)
    return [skip for result in results for skip in result.skips]


class NodeLegality:
    """Which nodes of a graph a target runs.

    In a graph that is newer than the target's files a node is checked after a conversion on its own.
    """

    def __init__(self, graph: gs.Graph, target: Target) -> None:
        self._graph, self._target = graph, target
        self._convert = is_newer_than_files(graph, target)
        self._activations = activations(graph) if self._convert else {}
        self._reasons: dict[int, str | None] = {}

    @property
    def nodes(self) -> list[gs.Node]:
        """The nodes to check. A converted node is checked together with its subgraphs."""
        return list(self._graph.nodes) if self._convert else list(ir.nodes(self._graph))

    def why_not(self, node: gs.Node) -> str | None:
        """The first reason why the target refuses `node`, or None. Cost: at most the segment passes on one node."""
        if not self._convert:
            return self._target.why_not(node)
        if id(node) not in self._reasons:
            self._reasons[id(node)] = self._why_not_converted(node)
        return self._reasons[id(node)]

    def accepts(self, node: gs.Node) -> bool:
        """Whether the target runs a node and all nodes in its subgraphs."""
        inner = [] if self._convert else [each for subgraph in node.subgraphs() for each in ir.nodes(subgraph)]
        return all(self.why_not(each) is None for each in [node, *inner])

    def _why_not_converted(self, node: gs.Node) -> str | None:
        inputs = {id(t): self._activations[id(t)] for t in ir.reads(node) if id(t) in self._activations}
        part = subgraph(self._graph, [node], list(inputs.values()), [t for t in node.outputs if not t.is_empty()])
        skips = run_segment_passes(part, self._target)
        if is_newer_than_files(part, self._target):
            unsupported = None if node.op in self._target.ops else self._target.why_not(node)
            return unsupported or next(
                (skip.reason for skip in skips), f"it has no form in opset {self._target.file_opset}"
            )
        return next((why for each in ir.nodes(part) if (why := self._target.why_not(each))), None)
