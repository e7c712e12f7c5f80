"""Merge two consecutive Slices into one.

    Slice(Slice(x))  ->  Slice(x)

An axis that only one of them slices keeps its bounds. For an axis of known size that both slice,

    start = start1 + start2 * step1,   step = step1 * step2,   and the result keeps its size,

counted in cells of x. Exact: a Slice only copies.

Must not fire: bounds that are not constant; an axis of unknown size that both slice; steps below 1; an intermediate
result that is an output or used elsewhere, since both Slices would stay.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph.invariants import PORTABLE, REVEALED
from segc.passes.base import Pass, PassResult
from segc.passes.support.edit import Names, protected, prune
from segc.passes.support.slices import Cut, compose, cuts_of, is_slice


class MergeSlices(Pass):
    """Merge a Slice into the Slice before it. Cost: one walk over the nodes."""

    name = "merge-slices"
    algebra = "Slice(Slice(x))  ->  Slice(x)"
    requires = Pass.requires | {PORTABLE, "constants folded", "identities removed"}
    invalidates = REVEALED | {"batchnorms fused", "convolutions hoisted"}

    def run(self, graph: gs.Graph) -> PassResult:
        """Walk the sorted graph: a chain of any length becomes one."""
        result, names, protected_ids = PassResult(), Names(graph), protected(graph)
        for node in [n for n in graph.nodes if is_slice(n)]:
            x = node.inputs[0]
            inner = x.inputs[0] if x.inputs else None
            if inner is None or not is_slice(inner):
                continue
            merged = _merged(inner, node, protected_ids)
            if isinstance(merged, str):
                result.skip(node, merged)
                continue
            _rewrite(graph, node, inner.inputs[0], merged, names)
            prune(graph, inner, protected_ids)
            result.changes += 1
        return result


def _merged(inner: gs.Node, outer: gs.Node, protected_ids: set[int]) -> dict[int, Cut] | str:
    intermediate = inner.outputs[0]
    if id(intermediate) in protected_ids or len(intermediate.outputs) != 1:
        return f"'{intermediate.name}' is also used elsewhere"
    inner_cuts, outer_cuts = cuts_of(inner), cuts_of(outer)
    if inner_cuts is None or outer_cuts is None:
        return "the bounds are not constant, or a step is below 1"
    merged = inner_cuts | outer_cuts
    for axis in inner_cuts.keys() & outer_cuts.keys():
        size = inner.inputs[0].shape[axis]
        if not isinstance(size, (int, np.integer)):
            return f"both slice axis {axis}, whose size is unknown"
        merged[axis] = compose(inner_cuts[axis], outer_cuts[axis], int(size))
    return dict(sorted(merged.items()))


def _rewrite(graph: gs.Graph, node: gs.Node, x: gs.Tensor, merged: dict[int, Cut], names: Names) -> None:
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
