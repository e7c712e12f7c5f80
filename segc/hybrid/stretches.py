"""Parts of a convex set of nodes that have one input and one output, for engines that have no more.

A stretch is a run of neighbours in a sorted list of the set's nodes. Runs of a sorted list are convex, and the runs of
one set need each other in the order of the list only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import onnx_graphsurgeon as gs

from segc.hybrid.borders import Borders
from segc.targets.base import BorderCheck

Run = tuple[int, int]  # first position, and the one after the last


def stretches(
    order: Sequence[int], borders: Borders, work: Mapping[int, int], check: BorderCheck
) -> list[Sequence[int]]:
    """Stretches that do not overlap, in order: the one with the most work, then the next that is beside it, and so on.

    order: the set, sorted. work: of each node. check: why a tensor cannot be a border; the graph's own are not asked.
    Cost: quadratic in the length of `order` where one input feeds all of it, otherwise less.
    """
    until = [0]
    for key in order:
        until.append(until[-1] + work[key])
    runs = [run for start in range(len(order)) for run in _runs(order, start, borders, check)]
    runs.sort(key=lambda run: (until[run[0]] - until[run[1]], run[0] - run[1], run[0]))
    taken = [False] * len(order)
    found: list[Run] = []
    for start, end in runs:
        if not (taken[start] or taken[end - 1] or any(taken[start:end])):
            taken[start:end] = [True] * (end - start)
            found.append((start, end))
    return [order[start:end] for start, end in sorted(found)]


def _runs(order: Sequence[int], start: int, borders: Borders, check: BorderCheck) -> Iterator[Run]:
    """Runs from `start` on that have one legal input and one legal output."""
    read: dict[int, gs.Variable] = {}
    unread: dict[int, tuple[gs.Variable, int]] = {}  # what the run makes, and how many nodes outside read it
    for at in range(start, len(order)):
        key = order[at]
        for tensor in borders.reads(key):
            if id(tensor) in unread:
                unread[id(tensor)] = (tensor, unread[id(tensor)][1] - 1)
            else:
                read[id(tensor)] = tensor
        if len(read) > 1:
            return
        for tensor in borders.nodes[key].outputs:
            if not tensor.is_empty():
                unread[id(tensor)] = (tensor, len(borders.readers(tensor)))
        given = [tensor for tensor, count in unread.values() if count or borders.kept(tensor)]
        if len(read) == len(given) == 1 and all(borders.outer(t) or not check(t) for t in [*read.values(), *given]):
            yield start, at + 1
