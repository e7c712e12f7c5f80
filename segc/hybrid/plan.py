"""From a graph that a target refuses in part to segments in running order.

1. A node is supported when the target refuses neither it nor a node in its subgraphs.
2. Supported nodes are joined to groups (segc.graph.analysis.partition), the heaviest edges first.
3. Groups shrink until every border is legal for the target; targets whose engines have one input and one output get
   the heaviest stretches of a group that have. What goes becomes the host's.
4. Groups that are not worth their borders become the host's (`Partitioning`).
5. What remains is put in order. Arithmetic on the image's shape is repeated in every segment that needs it.
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
from segc.hybrid.cut_tensors import Borders, needed, repeatable
from segc.hybrid.options import Partitioning
from segc.hybrid.single_io_runs import stretches
from segc.legality.node_legality import Judge
from segc.targets.target import Target


@dataclass(frozen=True)
class Segment:
    """Nodes that one engine runs, what it needs and what it gives; on_host: ONNX Runtime runs it.

    form: the segment as a graph of its own, where its target has passes for segments (`Target.segment_passes`).
    """

    target: Target
    on_host: bool
    nodes: tuple[gs.Node, ...]
    inputs: tuple[gs.Variable, ...]
    outputs: tuple[gs.Variable, ...]
    form: gs.Graph | None = None

    @property
    def count(self) -> int:
        """How many nodes its file holds."""
        return len(self.nodes if self.form is None else self.form.nodes)


@dataclass(frozen=True)
class Plan:
    """segments: in running order, empty when the target gets nothing. share: of the model's work, on the target.

    moved: in words, which supported nodes the host runs all the same.
    """

    segments: tuple[Segment, ...]
    share: float
    moved: tuple[str, ...]
    costs: Costs

    @property
    def host_nodes(self) -> int:
        """How many nodes ONNX Runtime runs."""
        return sum(len(segment.nodes) for segment in self.segments if segment.on_host)


def plan(graph: gs.Graph, target: Target, host: Target, options: Partitioning, shapes: Mapping[str, Shape]) -> Plan:
    """Split a sorted graph. shapes: see `Costs`. Cost: a few times that of `segc.graph.analysis.partition.merge`."""
    return _Planner(graph, target, host, options, Costs(shapes)).plan()


def host_accepts(host: Target, node: gs.Node) -> bool:
    """Whether the host runs a node: the dialect's ops bring their reference bodies."""
    inner = [each for subgraph in node.subgraphs() for each in ir.nodes(subgraph)]
    return all(each.domain == dialect.DOMAIN or host.why_not(each) is None for each in [node, *inner])


class _Planner:
    def __init__(self, graph: gs.Graph, target: Target, host: Target, options: Partitioning, costs: Costs) -> None:
        self.graph, self.target, self.host, self.options, self.costs = graph, target, host, options, costs
        self.borders = Borders(graph)
        self.work = {id(node): costs.work(node) for node in graph.nodes}
        self.judge = Judge(graph, target)
        self.supported = {id(node) for node in graph.nodes if self.judge.accepts(node)}
        self.free = repeatable(self.borders, self._runs_anywhere) if target.multi_io else set()
        self.view = _without(node_graph(graph), self.free)

    def plan(self) -> Plan:
        found = self._groups()
        groups = [group for group in found if self._worth_it(group)]
        share = self._share(groups)
        moved = self._moved(found, groups)
        if not groups or share < self.options.min_share:
            return Plan((), share, moved, self.costs)
        parts = schedule(self.view, groups)
        segments = tuple(self._segment(part.chosen, part.nodes) for part in parts)
        return Plan(segments, share, moved, self.costs)

    def _runs_anywhere(self, node: gs.Node) -> bool:
        return self.judge.accepts(node) and host_accepts(self.host, node)

    def _groups(self) -> list[Group]:
        """Groups whose borders are legal."""
        chosen = self.supported - self.free
        while True:
            groups = merge(self.view, chosen, self._weight)
            if not self.target.multi_io:
                return [part for group in groups for part in self._stretches(group)]
            legal = {key for group in groups for key in self._legal(group)}
            if legal == chosen:
                return groups
            chosen = legal

    def _weight(self, producer: int, reader: int) -> float:
        """Bytes that stay inside when the edge does; without limit where the edge cannot be a border."""
        between = [t for t in self.borders.nodes[producer].outputs if reader in self.borders.readers(t)]
        if any(self.target.boundary(t) for t in between):
            return math.inf
        return sum(self.costs.nbytes(t) or 0 for t in between)

    def _legal(self, group: Collection[int]) -> set[int]:
        """The group without the nodes that stand at borders the target does not take."""
        kept = set(group)
        while True:
            whole = kept | self._repeated(kept)
            refused: set[int] = set()
            for tensor in self.borders.inputs(whole):
                if not self.borders.outer(tensor) and self.target.boundary(tensor):
                    refused |= self.borders.readers(tensor) & kept
            for tensor in self.borders.outputs(kept):
                if not self.borders.kept(tensor) and self.target.boundary(tensor):
                    refused.add(self.borders.producer(tensor) or 0)
            if not refused & kept:
                return kept
            kept -= refused

    def _stretches(self, group: Group) -> list[Group]:
        order = [key for key in self.view if key in group]
        return [frozenset(found) for found in stretches(order, self.borders, self.work, self.target.boundary)]

    def _repeated(self, keys: Collection[int]) -> set[int]:
        return needed(self.borders, keys, self.free)

    def _worth_it(self, group: Group) -> bool:
        """Large enough, with enough work; an engine that computes constants only is worth nothing."""
        work = sum(self.work[key] for key in group)
        enough = work >= self.options.work_per_byte * self._transfer(group)
        return enough and len(group) >= self.options.min_nodes and bool(self.borders.inputs(group))

    def _transfer(self, group: Group) -> int:
        """Bytes over the borders of a group; what the whole graph takes and gives crosses one in any case."""
        whole = group | self._repeated(group)
        crossing = [*self.borders.inputs(whole), *self.borders.outputs(group)]
        return sum(self.costs.nbytes(t) or 0 for t in crossing if not self.borders.outer(t))

    def _share(self, groups: Sequence[Group]) -> float:
        """The part of the work, or of the nodes where no work is known, that the groups do."""
        inside = {key for group in groups for key in group}
        total = sum(self.work.values())
        return sum(self.work[key] for key in inside) / total if total else len(inside) / max(len(self.view), 1)

    def _moved(self, found: Sequence[Group], kept: Sequence[Group]) -> tuple[str, ...]:
        legal = {key for group in found for key in group}
        at_borders = len(self.supported - self.free - legal)
        small = [group for group in found if group not in kept]
        lines = []
        if at_borders:
            lines.append(f"{_stay(at_borders)}: {self.target.name} does not take {_their(at_borders)} borders")
        if small:
            nodes = sum(len(group) for group in small)
            parts = f"{len(small)} small part{'s' * (len(small) > 1)}"
            lines.append(f"{_stay(nodes, f' in {parts}')}: not worth {_their(nodes)} borders")
        return tuple(lines)

    def _segment(self, chosen: bool, keys: tuple[int, ...]) -> Segment:
        own = set(keys)
        whole = own | self._repeated(own)
        nodes = tuple(node for node in self.graph.nodes if id(node) in whole)
        return Segment(
            self.target if chosen else self.host,
            not chosen,
            nodes,
            tuple(self.borders.inputs(whole)),
            tuple(self.borders.outputs(own)),
        )


def _without(view: nx.DiGraph, keys: Collection[int]) -> nx.DiGraph:
    """A view of ids only, without some of the nodes."""
    kept = nx.DiGraph()
    kept.add_nodes_from(key for key in view if key not in keys)
    kept.add_edges_from((a, b) for a, b in view.edges if a not in keys and b not in keys)
    return kept


def _stay(nodes: int, where: str = "") -> str:
    return f"1 node{where} stays on the host" if nodes == 1 else f"{nodes} nodes{where} stay on the host"


def _their(nodes: int) -> str:
    return "its" if nodes == 1 else "their"
