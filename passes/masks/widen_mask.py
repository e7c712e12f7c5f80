"""Widen the mask to int64, for runtimes without small integers; segc's runtime narrows it again.

    mask = Cast<uint8>(winner)   ->  mask = winner, int64
    mask = Cast<uint8>(above)    ->  mask = Cast<int64>(above), for booleans

Exact: the numbers are the same, at eight bytes each.

Must not fire: outputs other than a mask that a Cast to unsigned integers makes; a winner that is also an output.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from segc.graph.invariants import MASK, PORTABLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.edit import forward, protected

INT64 = np.dtype(np.int64)


class WidenMask(Pass):
    """Replace the Cast that narrows the mask."""

    name = "widen-mask"
    algebra = "mask = Cast<uint8>(winner)  ->  mask = winner, int64"
    ensures = frozenset({"mask widened"})
    invalidates = frozenset({PORTABLE})

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite the Cast before the output."""
        result = PassResult()
        for mask in graph.outputs:
            cast = mask.inputs[0] if mask.name == MASK and mask.inputs else None
            if cast is None or cast.op != "Cast" or np.dtype(mask.dtype) == INT64:
                continue
            winner = cast.inputs[0]
            if winner.dtype is not None and np.dtype(winner.dtype) == INT64:
                if why := forward(graph, mask, winner, protected(graph)):
                    result.skip(cast, why)
                    continue
            else:
                cast.attrs["to"] = int(onnx.TensorProto.INT64)
            mask.dtype = INT64
            result.changes += 1
        return result
