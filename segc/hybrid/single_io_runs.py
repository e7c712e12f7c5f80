"""Parts of a convex set of nodes that have one input and one output, for engines that have no more.

A stretch is a run of neighbours in a sorted list of the set's nodes. Runs of a sorted list are convex, and the runs of
one set need each other in the order of the list only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

import onnx_graphsurgeon as gs

from segc.hybrid.cut_tensors import Borders
from segc.targets.checks import BoundaryCheck

Run = tuple[int, int]  # first position, and the one after the last


def stretches(
    order: Sequence[int], borders: Borders, work: Mapping[int, int], check: BoundaryCheck
) -> list[Sequence[int]]:
    """Stretches that do not overlap, in order: the one with the most work, then the next that is beside it, and so on.

    order: the set, sorted. work: of each node. check: why a tensor cannot be a border; the graph's own are not asked.
    Cost: linear where one stretch takes nearly all, quadratic in the length of `order` at worst.
    """
    until = [0, *accumulate(work[key] for key in order)]
    found: list[Run] = []
    pending = [(0, len(order))]
    while pending:
        low, high = pending.pop()
        best: Run | None = None
        for start in range(low, high):
            if best is not None and until[high] - until[start] <= until[best[1]] - until[best[0]]:
                break  # no run from here on does more
            for run in _runs(order, (start, high), borders, check):
                if best is None or until[run[1]] - until[run[0]] > until[best[1]] - until[best[0]]:
                    best = run
        if best is not None:
            found.append(best)
            pending += [(low, best[0]), (best[1], high)]
    return [order[start:end] for start, end in sorted(found)]


def _runs(order: Sequence[int], within: Run, borders: Borders, check: BoundaryCheck) -> Iterator[Run]:
    """Runs from the first position of `within` on that have one legal input and one legal output."""
    read: dict[int, gs.Variable] = {}
    unread: dict[int, int] = {}  # how many nodes outside the run read what it makes
    given: dict[int, gs.Variable] = {}
    for at in range(*within):
        key = order[at]
        for tensor in borders.reads(key):
            if id(tensor) not in unread:
                read[id(tensor)] = tensor
                continue
            unread[id(tensor)] -= 1
            if not unread[id(tensor)] and not borders.kept(tensor):
                del given[id(tensor)]
        if len(read) > 1:
            return
        for tensor in borders.nodes[key].outputs:
            if not tensor.is_empty():
                unread[id(tensor)] = len(borders.readers(tensor))
                if unread[id(tensor)] or borders.kept(tensor):
                    given[id(tensor)] = tensor
        borderline = [*read.values(), *given.values()]
        if len(read) == len(given) == 1 and all(borders.outer(t) or not check(t) for t in borderline):
            yield within[0], at + 1
