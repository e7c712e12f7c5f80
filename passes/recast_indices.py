"""Cast the indices of TopK to int64, for runtimes that compute them in a narrower type whatever ONNX says.

    v, i = TopK(x, k);  y = Gather(x, i)   ->   y = Gather(x, Cast<int64>(i))

Exact: in ONNX they are int64 already, and the Cast does nothing.

Must not fire: where only Casts read the indices; where they are an output of the graph, whose type the runtime decides.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from segc.passes.base import Pass, PassResult
from segc.passes.build import standard
from segc.passes.edit import Names, insert, protected, redirect

INT64 = np.dtype(np.int64)


class RecastIndices(Pass):
    """Put a Cast between TopK's indices and what reads them."""

    name = "recast-indices"
    algebra = "Gather(x, i) with v, i = TopK(x, k)  ->  Gather(x, Cast<int64>(i))"

    def run(self, graph: gs.Graph) -> PassResult:
        """Insert the Casts."""
        result, names, keep = PassResult(), Names(graph), protected(graph)
        for node in standard(graph, "TopK"):
            indices = node.outputs[1] if len(node.outputs) > 1 else None
            if indices is None or all(user.op == "Cast" for user in indices.outputs):
                continue
            if id(indices) in keep:
                result.skip(node, f"'{indices.name}' is an output")
                continue
            wide = names.variable(indices, "wide", INT64, indices.shape)
            redirect(indices, wide)
            cast = gs.Node("Cast", attrs={"to": int(onnx.TensorProto.INT64)}, inputs=[indices], outputs=[wide])
            follower = next((n for n in graph.nodes if any(t is wide for t in n.inputs)), node)
            insert(graph, follower, [cast])
            result.changes += 1
        return result
