"""Widen uint16 masks, those of more than 256 classes, to int32, for runtimes whose outputs cannot be 16-bit integers.

mask = Cast(x, uint16)  ->  mask = Cast(x, int32), where mask is an output of the graph

The class numbers are the same; segc's runtime narrows them to the type in the manifest.

Must not fire: uint8 masks; outputs that nodes also read; uint16 outputs that no Cast writes.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from segc.graph.invariants import PORTABLE
from segc.passes.base import Pass, PassResult, Skip

INT32 = np.dtype(np.int32)


class WidenUint16Mask(Pass):
    """Widen each uint16 output."""

    name = "widen-uint16-mask"
    algebra = "mask = Cast(x, uint16)  ->  mask = Cast(x, int32)"
    requires = Pass.requires | {"no segc.ResizeArgMax"}
    ensures = frozenset({"uint16 mask widened"})
    invalidates = frozenset({PORTABLE})

    def run(self, graph: gs.Graph) -> PassResult:
        """Widen in place."""
        result = PassResult()
        for output in graph.outputs:
            if output.dtype != np.uint16:
                continue
            producer = output.inputs[0] if output.inputs else None
            if producer is None or producer.op != "Cast" or output.outputs:
                reason = "other nodes read it" if output.outputs else "no Cast writes it"
                result.skips.append(Skip(output.name, f"the output stays uint16: {reason}"))
                continue
            producer.attrs["to"] = int(onnx.TensorProto.INT32)
            output.dtype = INT32
            result.changes += 1
        return result
