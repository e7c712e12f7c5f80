"""Divide a convex set of nodes into runs with one input and one output, for engines that have no more.

A run is a range of neighbours in a topological order of the set's nodes. Such ranges are convex, and depend on each
other in that order only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

import onnx_graphsurgeon as gs

from segc.hybrid.cut_tensors import Dataflow
from segc.targets.checks import BoundaryCheck

Run = tuple[int, int]  # first position, and the one after the last


def find_single_io_runs(
    order: Sequence[int], dataflow: Dataflow, work: Mapping[int, int], check: BoundaryCheck
) -> list[Sequence[int]]:
    """Disjoint runs, in order, chosen greedily: the one with the most work, then the next beside it, and so on.

    order: the keys of the set's nodes, sorted. work: of each node. check(tensor): why it cannot be a boundary tensor;
    inputs and outputs of the graph are not checked. Cost: linear where one run covers nearly all of `order`, at worst
    quadratic in its length.
    """
    work_before = [0, *accumulate(work[key] for key in order)]

    def work_of(run: Run) -> int:
        return work_before[run[1]] - work_before[run[0]]

    chosen: list[Run] = []
    pending = [(0, len(order))]
    while pending:
        low, high = pending.pop()
        best: Run | None = None
        for start in range(low, high):
            if best is not None and work_of((start, high)) <= work_of(best):
                break  # no run that starts here or later does more work
            for run in _runs_from_start(order, (start, high), dataflow, check):
                if best is None or work_of(run) > work_of(best):
                    best = run
        if best is not None:
            chosen.append(best)
            pending += [(low, best[0]), (best[1], high)]
    return [order[start:end] for start, end in sorted(chosen)]


def _runs_from_start(order: Sequence[int], within: Run, dataflow: Dataflow, check: BoundaryCheck) -> Iterator[Run]:
    """The runs that start at the first position of `within` and have one legal input and one legal output."""
    inputs: dict[int, gs.Variable] = {}
    readers_outside: dict[int, int] = {}  # of each tensor that the run computes
    outputs: dict[int, gs.Variable] = {}
    for position in range(*within):
        key = order[position]
        for tensor in dataflow.reads(key):
            if id(tensor) not in readers_outside:
                inputs[id(tensor)] = tensor
                continue
            readers_outside[id(tensor)] -= 1
            if not readers_outside[id(tensor)] and not dataflow.is_graph_output(tensor):
                del outputs[id(tensor)]
        if len(inputs) > 1:
            return
        for tensor in dataflow.nodes[key].outputs:
            if not tensor.is_empty():
                readers_outside[id(tensor)] = len(dataflow.readers(tensor))
                if readers_outside[id(tensor)] or dataflow.is_graph_output(tensor):
                    outputs[id(tensor)] = tensor
        boundary = [*inputs.values(), *outputs.values()]
        if len(inputs) == len(outputs) == 1 and all(dataflow.is_graph_io(t) or not check(t) for t in boundary):
            yield within[0], position + 1
