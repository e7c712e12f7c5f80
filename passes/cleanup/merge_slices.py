"""Make one Slice of two.

    Slice(Slice(x))  ->  Slice(x)

Along an axis that only one of them cuts, its bounds are taken over. Along an axis that both cut, with size s known,

    start = start1 + start2 * step1,   step = step1 * step2,   the count of the result stays,

counted in cells of x. Exact: a Slice copies.

Must not fire: a bound that is not constant; an axis that both cut and whose size is unknown; steps below 1; where the
value between is an output or used elsewhere, since both would stay.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from segc.passes.base import Pass, PassResult
from segc.passes.cleanup.remove_identities import slice_edges
from segc.passes.support.edit import Names, protected, prune, rank

LAST = 2**63 - 1


@dataclass(frozen=True)
class Cut:
    """Cells start, start + step, ... below end of one axis, as Slice spells them (negative counts from the end)."""

    start: int
    end: int
    step: int = 1


class MergeSlices(Pass):
    """Merge a Slice into the Slice before it. Cost: one walk over the nodes."""

    name = "merge-slices"
    algebra = "Slice(Slice(x))  ->  Slice(x)"

    def run(self, graph: gs.Graph) -> PassResult:
        """Walk the sorted graph: a chain of any length becomes one."""
        result, names, keep = PassResult(), Names(graph), protected(graph)
        for node in [n for n in graph.nodes if is_slice(n)]:
            x = node.inputs[0]
            first = x.inputs[0] if x.inputs else None
            if first is None or not is_slice(first):
                continue
            merged = _merged(first, node, keep)
            if isinstance(merged, str):
                result.skip(node, merged)
                continue
            _write(graph, node, first.inputs[0], merged, names)
            prune(graph, first, keep)
            result.changes += 1
        return result


def is_slice(node: gs.Node) -> bool:
    """Whether this is a Slice of the standard domain."""
    return bool(node.op == "Slice" and node.domain is None and node.inputs and node.outputs)


def cuts(node: gs.Node) -> dict[int, Cut] | None:
    """Axis -> what a Slice with constant bounds keeps of it."""
    edges, dims = slice_edges(node), rank(node.inputs[0])
    if edges is None or dims is None or any(step < 1 for step in edges[3]):
        return None
    return {axis % dims: Cut(start, end, step) for start, end, axis, step in zip(*edges, strict=True)}


def positions(cut: Cut, size: int) -> range:
    """The cells of an axis of `size` that a cut with a positive step keeps."""
    return range(*slice(cut.start, cut.end, cut.step).indices(size))


def composed(first: Cut, then: Cut, size: int) -> Cut:
    """One cut of an axis of `size` for two."""
    cells = positions(first, size)[slice(then.start, then.end, then.step)]
    return Cut(cells.start, cells.start + len(cells) * cells.step, cells.step) if len(cells) else Cut(0, 0)


def _merged(first: gs.Node, then: gs.Node, keep: set[int]) -> dict[int, Cut] | str:
    between = first.outputs[0]
    if id(between) in keep or len(between.outputs) != 1:
        return f"'{between.name}' is also used elsewhere"
    before, after = cuts(first), cuts(then)
    if before is None or after is None:
        return "bounds that are not constant, or steps below 1"
    merged = before | after
    for axis in before.keys() & after.keys():
        size = first.inputs[0].shape[axis]
        if not isinstance(size, (int, np.integer)):
            return f"both cut axis {axis}, whose size is unknown"
        merged[axis] = composed(before[axis], after[axis], int(size))
    return dict(sorted(merged.items()))


def _write(graph: gs.Graph, node: gs.Node, x: gs.Tensor, merged: dict[int, Cut], names: Names) -> None:
    y = node.outputs[0]
    columns = {
        "starts": [c.start for c in merged.values()],
        "ends": [c.end for c in merged.values()],
        "axes": list(merged),
        "steps": [c.step for c in merged.values()],
    }
    if graph.opset < 10:
        node.inputs, node.attrs = [x], {name: values for name, values in columns.items() if name != "steps"}
        return
    if all(step == 1 for step in columns["steps"]):
        del columns["steps"]
    node.inputs, node.attrs = [x, *(names.constant(y, name, values) for name, values in columns.items())], {}
