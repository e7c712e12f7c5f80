"""Give masks of more than 256 classes as int32, for runtimes without 16-bit integers at the graph's edge.

mask = Cast(x, uint16)  ->  mask = Cast(x, int32), where mask is an output of the graph

Class numbers are the same; whoever runs the engine narrows them to what its manifest says.

Must not fire: masks of uint8; outputs that other nodes read too; uint16 outputs that no Cast writes.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from segc.passes.base import Pass, PassResult, Skip

INT32 = np.dtype(np.int32)


class WidenUint16Mask(Pass):
    """Widen each uint16 output."""

    name = "widen-uint16-mask"
    algebra = "mask = Cast(x, uint16)  ->  mask = Cast(x, int32)"

    def run(self, graph: gs.Graph) -> PassResult:
        """Widen in place."""
        result = PassResult()
        for output in graph.outputs:
            if output.dtype != np.uint16:
                continue
            maker = output.inputs[0] if output.inputs else None
            if maker is None or maker.op != "Cast" or output.outputs:
                reason = "other nodes read it" if output.outputs else "no Cast writes it"
                result.skips.append(Skip(output.name, f"uint16 output stays: {reason}"))
                continue
            maker.attrs["to"] = int(onnx.TensorProto.INT32)
            output.dtype = INT32
            result.changes += 1
        return result
