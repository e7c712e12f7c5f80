"""Splitting a graph in two kinds of parts, so that the parts can run one after the other.

A set of nodes is convex when no path leaves it and comes back: what it needs is there before it starts. Two neighbours
A -> B can become one part when the edge is the only way from A to B; then the parts still need each other in one
direction only. `merge` joins chosen nodes along edges until no two neighbours can be joined any more: every group is
connected and convex, and no set of groups could be one. Which of two joins that exclude each other wins is decided by
the weight of their edges, so there may be more groups than the fewest possible. `schedule` orders the groups and puts
the other nodes between them, in as few parts as these groups allow. docs/partitioning.md has the proof and figures.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import networkx as nx

Group = frozenset[int]


@dataclass(frozen=True)
class Part:
    """Nodes that run together, in the order of the view. chosen: one of the groups; otherwise nodes of no group."""

    chosen: bool
    nodes: tuple[int, ...]


def merge(view: nx.DiGraph, chosen: Collection[int], weight: Callable[[int, int], float]) -> list[Group]:
    """Groups of chosen nodes, in the order of their first nodes in the view; each chosen node is in one.

    view: acyclic. weight(producer, reader): heavier edges are joined first, equal ones in the order of the view.
    Cost: a search for a path per edge and round; two or three rounds as a rule.
    """
    quotient = _Quotient(view)
    at = {key: position for position, key in enumerate(view)}
    edges = [(a, b) for a, b in view.edges if a in chosen and b in chosen]
    edges.sort(key=lambda edge: (-weight(*edge), at[edge[0]], at[edge[1]]))
    while True:
        apart = [edge for edge in edges if not quotient.join(*edge)]
        if len(apart) == len(edges):
            break
        edges = apart  # a join may have taken the detour between two others
    found = {quotient.group[key]: frozenset(quotient.members[quotient.group[key]]) for key in view if key in chosen}
    return list(found.values())


def schedule(view: nx.DiGraph, groups: Sequence[Collection[int]]) -> list[Part]:
    """The groups and, between them, the other nodes gathered in as few parts as the groups allow.

    Each part needs earlier parts only. Raises ValueError when the groups need each other.
    """
    quotient = _Quotient(view)
    for group in groups:
        quotient.gather(group)
    heads = {quotient.group[next(iter(group))] for group in groups}
    orders = [_alternate(quotient, heads, first) for first in (False, True)]
    return min(orders, key=len)


class _Quotient:
    """The view with groups of nodes contracted; each group is known by one of its nodes."""

    def __init__(self, view: nx.DiGraph) -> None:
        self.graph = nx.DiGraph()
        self.graph.add_nodes_from(view)
        self.graph.add_edges_from(view.edges)
        self.at = {key: position for position, key in enumerate(view)}
        self.group = {key: key for key in view}
        self.members = {key: [key] for key in view}

    def join(self, producer: int, reader: int) -> bool:
        """Contract the edge between the groups of two nodes unless there is a detour; True when they are one group."""
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
        """Make one group of these nodes."""
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
    """Run all of one kind that is ready, then all of the other, and so on. first: whether the groups begin."""
    first_at = {head: min(quotient.at[key] for key in keys) for head, keys in quotient.members.items()}
    waiting = dict(quotient.graph.in_degree())
    ready: dict[bool, list[tuple[int, int]]] = {False: [], True: []}
    for head, missing in waiting.items():
        if not missing:
            heapq.heappush(ready[head in heads], (first_at[head], head))

    def run(kind: bool) -> Iterator[int]:
        while ready[kind]:
            _, head = heapq.heappop(ready[kind])
            yield head
            for reader in quotient.graph.successors(head):
                waiting[reader] -= 1
                if not waiting[reader]:
                    heapq.heappush(ready[reader in heads], (first_at[reader], reader))

    parts, kind = [], first
    while ready[False] or ready[True]:
        ran = [_ordered(quotient, quotient.members[head]) for head in run(kind)]
        if kind:
            parts += [Part(True, keys) for keys in ran]
        elif ran:
            parts.append(Part(False, _ordered(quotient, [key for keys in ran for key in keys])))
        kind = not kind
    if any(waiting.values()):
        raise ValueError("the groups need each other")
    return parts


def _ordered(quotient: _Quotient, keys: Collection[int]) -> tuple[int, ...]:
    return tuple(sorted(keys, key=quotient.at.__getitem__))
