"""Plan a partitioning: from a graph that a target refuses in part to segments in run order.

1. A node is supported when the target refuses neither it nor a node in its subgraphs.
2. Supported nodes are merged into groups (segc.graph.analysis.partition), along the heaviest edges first.
3. Groups shrink until the target accepts every boundary tensor. Targets whose engines have one input and one output
   get the runs of a group that have them, the ones with the most work first. Nodes that drop out go to the host.
4. Groups that are not worth the transfer of their boundary tensors go to the host (`Partitioning`).
5. The remaining groups are scheduled. Arithmetic on the image's shape is repeated in every segment that needs it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import networkx as nx
import onnx_graphsurgeon as gs

from segc.graph import dialect, ir
from segc.graph.analysis.partition import Group, merge, schedule
from segc.graph.analysis.views import node_graph
from segc.hybrid.costs import Costs, Shape
from segc.hybrid.cut_tensors import Dataflow, repeatable_nodes, required_nodes
from segc.hybrid.options import Partitioning
from segc.hybrid.single_io_runs import find_single_io_runs
from segc.legality.node_legality import NodeLegality
from segc.targets.target import Target


@dataclass(frozen=True)
class Segment:
    """The nodes, inputs and outputs of one engine. on_host: ONNX Runtime runs it.

    graph: the segment as a graph of its own, where its target has passes for segments (`Target.segment_passes`).
    """

    target: Target
    on_host: bool
    nodes: tuple[gs.Node, ...]
    inputs: tuple[gs.Variable, ...]
    outputs: tuple[gs.Variable, ...]
    graph: gs.Graph | None = None

    @property
    def count(self) -> int:
        """Number of nodes in the segment's file."""
        return len(self.nodes if self.graph is None else self.graph.nodes)


@dataclass(frozen=True)
class Plan:
    """segments: in run order; empty when the target gets none. share: of the model's work that the target does.

    kept_on_host: sentences about supported nodes that the host runs, and why.
    """

    segments: tuple[Segment, ...]
    share: float
    kept_on_host: tuple[str, ...]
    costs: Costs

    @property
    def host_nodes(self) -> int:
        """Number of nodes that ONNX Runtime runs."""
        return sum(len(segment.nodes) for segment in self.segments if segment.on_host)


def plan(graph: gs.Graph, target: Target, host: Target, options: Partitioning, shapes: Mapping[str, Shape]) -> Plan:
    """Plan the partitioning of a sorted graph. shapes: see `Costs`.

    Cost: a few times that of `segc.graph.analysis.partition.merge`.
    """
    return _Planner(graph, target, host, options, Costs(shapes)).plan()


def host_accepts(host: Target, node: gs.Node) -> bool:
    """Whether the host runs a node and those in its subgraphs; segc's ops run by their function bodies."""
    inner = [each for subgraph in node.subgraphs() for each in ir.nodes(subgraph)]
    return all(each.domain == dialect.DOMAIN or host.why_not(each) is None for each in [node, *inner])


class _Planner:
    def __init__(self, graph: gs.Graph, target: Target, host: Target, options: Partitioning, costs: Costs) -> None:
        self.graph, self.target, self.host, self.options, self.costs = graph, target, host, options, costs
        self.dataflow = Dataflow(graph)
        self.work = {id(node): costs.work(node) for node in graph.nodes}
        self.legality = NodeLegality(graph, target)
        self.supported = {id(node) for node in graph.nodes if self.legality.accepts(node)}
        self.repeatable = repeatable_nodes(self.dataflow, self._runs_on_both) if target.multi_io else set()
        self.view = _without(node_graph(graph), self.repeatable)

    def plan(self) -> Plan:
        legal_groups = self._groups()
        groups = [group for group in legal_groups if self._is_worthwhile(group)]
        share = self._share(groups)
        kept_on_host = self._kept_on_host(legal_groups, groups)
        if not groups or share < self.options.min_share:
            return Plan((), share, kept_on_host, self.costs)
        parts = schedule(self.view, groups)
        segments = tuple(self._segment(part.chosen, part.nodes) for part in parts)
        return Plan(segments, share, kept_on_host, self.costs)

    def _runs_on_both(self, node: gs.Node) -> bool:
        return self.legality.accepts(node) and host_accepts(self.host, node)

    def _groups(self) -> list[Group]:
        """Groups of supported nodes whose boundary tensors the target accepts."""
        chosen = self.supported - self.repeatable
        while True:
            groups = merge(self.view, chosen, self._weight)
            if not self.target.multi_io:
                return [part for group in groups for part in self._single_io_runs(group)]
            legal = {key for group in groups for key in self._with_legal_boundary(group)}
            if legal == chosen:
                return groups
            chosen = legal

    def _weight(self, producer: int, reader: int) -> float:
        """Bytes that need no transfer if the edge stays inside a group; infinite for an illegal boundary tensor."""
        between = [t for t in self.dataflow.nodes[producer].outputs if reader in self.dataflow.readers(t)]
        if any(self.target.boundary(t) for t in between):
            return math.inf
        return sum(self.costs.nbytes(t) or 0 for t in between)

    def _with_legal_boundary(self, group: Collection[int]) -> set[int]:
        """The group without the nodes that read or compute boundary tensors that the target refuses."""
        kept = set(group)
        while True:
            whole = kept | self._repeated(kept)
            refused: set[int] = set()
            for tensor in self.dataflow.inputs(whole):
                if not self.dataflow.is_graph_io(tensor) and self.target.boundary(tensor):
                    refused |= self.dataflow.readers(tensor) & kept
            for tensor in self.dataflow.outputs(kept):
                if not self.dataflow.is_graph_output(tensor) and self.target.boundary(tensor):
                    refused.add(self.dataflow.producer(tensor) or 0)
            if not refused & kept:
                return kept
            kept -= refused

    def _single_io_runs(self, group: Group) -> list[Group]:
        order = [key for key in self.view if key in group]
        return [frozenset(run) for run in find_single_io_runs(order, self.dataflow, self.work, self.target.boundary)]

    def _repeated(self, keys: Collection[int]) -> set[int]:
        return required_nodes(self.dataflow, keys, self.repeatable)

    def _is_worthwhile(self, group: Group) -> bool:
        """Whether the group has enough nodes, enough work for its transfer, and an input."""
        work = sum(self.work[key] for key in group)
        enough = work >= self.options.work_per_byte * self._transfer(group)
        return enough and len(group) >= self.options.min_nodes and bool(self.dataflow.inputs(group))

    def _transfer(self, group: Group) -> int:
        """Bytes of a group's boundary tensors; inputs and outputs of the graph are transferred in any case."""
        whole = group | self._repeated(group)
        crossing = [*self.dataflow.inputs(whole), *self.dataflow.outputs(group)]
        return sum(self.costs.nbytes(t) or 0 for t in crossing if not self.dataflow.is_graph_io(t))

    def _share(self, groups: Sequence[Group]) -> float:
        """The groups' share of the work, or of the nodes where no work is known."""
        inside = {key for group in groups for key in group}
        total = sum(self.work.values())
        return sum(self.work[key] for key in inside) / total if total else len(inside) / max(len(self.view), 1)

    def _kept_on_host(self, legal_groups: Sequence[Group], chosen: Sequence[Group]) -> tuple[str, ...]:
        legal = {key for group in legal_groups for key in group}
        illegal = len(self.supported - self.repeatable - legal)
        small = [group for group in legal_groups if group not in chosen]
        lines = []
        if illegal:
            lines.append(
                f"{_stay_on_host(illegal)}: {self.target.name} does not accept {_possessive(illegal)} inputs or outputs"
            )
        if small:
            nodes = sum(len(group) for group in small)
            parts = f"{len(small)} small part{'s' * (len(small) > 1)}"
            stays, whose = _stay_on_host(nodes, f" in {parts}"), _possessive(nodes)
            lines.append(f"{stays}: not worth the transfer of {whose} inputs and outputs")
        return tuple(lines)

    def _segment(self, chosen: bool, keys: tuple[int, ...]) -> Segment:
        own = set(keys)
        whole = own | self._repeated(own)
        nodes = tuple(node for node in self.graph.nodes if id(node) in whole)
        return Segment(
            self.target if chosen else self.host,
            not chosen,
            nodes,
            tuple(self.dataflow.inputs(whole)),
            tuple(self.dataflow.outputs(own)),
        )


def _without(view: nx.DiGraph, keys: Collection[int]) -> nx.DiGraph:
    """The graph of node keys without some of the nodes."""
    kept = nx.DiGraph()
    kept.add_nodes_from(key for key in view if key not in keys)
    kept.add_edges_from((a, b) for a, b in view.edges if a not in keys and b not in keys)
    return kept


def _stay_on_host(nodes: int, where: str = "") -> str:
    return f"1 node{where} stays on the host" if nodes == 1 else f"{nodes} nodes{where} stay on the host"


def _possessive(nodes: int) -> str:
    return "its" if nodes == 1 else "their"
