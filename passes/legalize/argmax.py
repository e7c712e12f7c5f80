"""Expand ArgMax into comparisons with the maximum, for runtimes without ArgMax.

With n cells along the axis and rank[i] = n - i, so that the first cell ranks highest:

    behind = ReduceMax(x) > x                             0 where x is the maximum, else 1
    ArgMax(x)  ->  n - ReduceMax(rank - rank * behind)    the lowest index of the maximum, as ONNX wants it

With select_last_index = 1 the rank is i + 1, and the result is the largest rank minus 1. Comparisons are exact and
ranks are small integers, so the result is exact, including ties, as long as the type of x holds n exactly (2048 in
float16). A map with NaN is the exception: every comparison with NaN is false.

Must not fire: integers; float16 with more than 2048 cells; an unknown number of cells.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph.invariants import PORTABLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Builder, RewriteNotApplicable, rewrite, standard, typed

EXACT = {np.dtype(np.float16): 2**11, np.dtype(np.float32): 2**24, np.dtype(np.float64): 2**53}


class LegalizeArgMax(Pass):
    """Expand ArgMax into ReduceMax, Greater and arithmetic."""

    name = "legalize-argmax"
    algebra = "ArgMax(x)  ->  n - ReduceMax(rank - rank * (ReduceMax(x) > x)) with rank = [n .. 1]"
    requires = Pass.requires | {"no segc.ResizeArgMax"}
    ensures = frozenset({"no ArgMax"})
    invalidates = frozenset({PORTABLE})

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each node where it stands."""
        return rewrite(graph, standard(graph, "ArgMax"), expand, PassResult())


def ranks(count: int, last: bool) -> np.ndarray:
    """int64[count]: the tie-break rank of each cell; among equal cells the highest rank wins."""
    return np.arange(1, count + 1) if last else np.arange(count, 0, -1)


def expand(b: Builder) -> gs.Tensor:
    """Build the nodes that replace one ArgMax. Raises RewriteNotApplicable."""
    x = b.node.inputs[0]
    typed(x)
    dims = len(x.shape)
    axis = int(b.node.attrs.get("axis", 0)) % dims
    count, dtype = x.shape[axis], np.dtype(x.dtype)
    if dtype not in EXACT:
        raise RewriteNotApplicable(f"the type of '{x.name}' is {dtype}")
    if not isinstance(count, int):
        raise RewriteNotApplicable(f"the size of axis {axis} is unknown")
    if count > EXACT[dtype]:
        raise RewriteNotApplicable(f"{count} cells are more than {dtype} can number exactly")
    last = bool(b.node.attrs.get("select_last_index", 0))
    column = [1] * dims
    column[axis] = count
    rank = b.const("rank", ranks(count, last).reshape(column), dtype)
    behind = b.op("Greater", "behind", b.reduce("ReduceMax", "most", x, [axis]), x)
    lost = b.op("Mul", "lost", b.cast("behind_number", behind, dtype), b.const("lose", -rank.values))
    kept = b.op("Add", "kept", lost, rank)
    best = b.reduce("ReduceMax", "best", kept, [axis], keepdims=bool(b.node.attrs.get("keepdims", 1)))
    one = b.const("one", np.array(1 if last else count, dtype))
    index = b.op("Sub", "index", best, one) if last else b.op("Sub", "index", one, best)
    return b.cast("whole", index, np.int64)
