"""Partition a graph into parts of two kinds that can run one after the other.

A set of nodes is convex if no path leaves it and returns: all its inputs are available before it starts. Two neighbours
A -> B may become one part if the edge is the only path from A to B; dependencies between the parts then stay acyclic.
`merge` contracts edges between chosen nodes until no further edge can be contracted. Each resulting group is connected
and convex, and no union of groups is. Where two contractions exclude each other, the heavier edge wins, so there may be
more groups than the minimum. `schedule` orders the groups and gathers the other nodes between them in as few parts as
these groups allow. docs/partitioning.md has the proof and figures.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import networkx as nx

Group = frozenset[int]


@dataclass(frozen=True)
class Part:
    """Nodes that run together, in the order of the view. chosen: whether they are a group of chosen nodes."""

    chosen: bool
    nodes: tuple[int, ...]


def merge(view: nx.DiGraph, chosen: Collection[int], weight: Callable[[int, int], float]) -> list[Group]:
    """Partition the chosen nodes into groups, in the order of their first nodes in the view.

    view: acyclic. weight(producer, reader): heavier edges are contracted first, equal ones in the order of the view.
    Cost: one path search per edge and round; usually two or three rounds.
    """
    quotient = _Quotient(view)
    position = {key: index for index, key in enumerate(view)}
    edges = [(a, b) for a, b in view.edges if a in chosen and b in chosen]
    edges.sort(key=lambda edge: (-weight(*edge), position[edge[0]], position[edge[1]]))
    while True:
        remaining = [edge for edge in edges if not quotient.join(*edge)]
        if len(remaining) == len(edges):
            break
        edges = remaining  # a contraction may have removed the detour between two other groups
    groups = {quotient.group[key]: frozenset(quotient.members[quotient.group[key]]) for key in view if key in chosen}
    return list(groups.values())


def schedule(view: nx.DiGraph, groups: Sequence[Collection[int]]) -> list[Part]:
    """Order the groups, and gather the other nodes between them in as few parts as the groups allow.

    Each part depends on earlier parts only. Raises ValueError if the groups depend on each other.
    """
    quotient = _Quotient(view)
    for group in groups:
        quotient.gather(group)
    heads = {quotient.group[next(iter(group))] for group in groups}
    orders = [_alternate(quotient, heads, first) for first in (False, True)]
    return min(orders, key=len)


class _Quotient:
    """The view with groups of nodes contracted. One of its nodes represents each group."""

    def __init__(self, view: nx.DiGraph) -> None:
        self.graph = nx.DiGraph()
        self.graph.add_nodes_from(view)
        self.graph.add_edges_from(view.edges)
        self.position = {key: index for index, key in enumerate(view)}
        self.group = {key: key for key in view}
        self.members = {key: [key] for key in view}

    def join(self, producer: int, reader: int) -> bool:
        """Contract the edge between the groups of two nodes unless there is a detour. Returns whether they are one."""
        a, b = self.group[producer], self.group[reader]
        if a == b:
            return True
        self.graph.remove_edge(a, b)
        if self.graph.out_degree(a) and self.graph.in_degree(b) and nx.has_path(self.graph, a, b):
            self.graph.add_edge(a, b)
            return False
        self._contract(a, b)
        return True

    def gather(self, keys: Collection[int]) -> None:
        """Contract these nodes into one group."""
        first, *others = keys
        for key in others:
            self._contract(self.group[first], self.group[key])

    def _contract(self, a: int, b: int) -> None:
        if len(self.members[a]) < len(self.members[b]):
            a, b = b, a
        self.graph.add_edges_from((a, reader) for reader in self.graph.successors(b) if reader != a)
        self.graph.add_edges_from((producer, a) for producer in self.graph.predecessors(b) if producer != a)
        self.graph.remove_node(b)
        for key in self.members[b]:
            self.group[key] = a
        self.members[a] += self.members.pop(b)


def _alternate(quotient: _Quotient, heads: set[int], first: bool) -> list[Part]:
    """Run all ready nodes of one kind, then all of the other, in turns. first: whether the groups begin."""
    first_position = {head: min(quotient.position[key] for key in keys) for head, keys in quotient.members.items()}
    waiting = dict(quotient.graph.in_degree())
    ready: dict[bool, list[tuple[int, int]]] = {False: [], True: []}
    for head, missing in waiting.items():
        if not missing:
            heapq.heappush(ready[head in heads], (first_position[head], head))

    def run(kind: bool) -> Iterator[int]:
        while ready[kind]:
            _, head = heapq.heappop(ready[kind])
            yield head
            for reader in quotient.graph.successors(head):
                waiting[reader] -= 1
                if not waiting[reader]:
                    heapq.heappush(ready[reader in heads], (first_position[reader], reader))

    parts, kind = [], first
    while ready[False] or ready[True]:
        ran = [_ordered(quotient, quotient.members[head]) for head in run(kind)]
        if kind:
            parts += [Part(True, keys) for keys in ran]
        elif ran:
            parts.append(Part(False, _ordered(quotient, [key for keys in ran for key in keys])))
        kind = not kind
    if any(waiting.values()):
        raise ValueError("the groups depend on each other")
    return parts


def _ordered(quotient: _Quotient, keys: Collection[int]) -> tuple[int, ...]:
    return tuple(sorted(keys, key=quotient.position.__getitem__))
