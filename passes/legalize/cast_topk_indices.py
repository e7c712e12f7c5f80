"""Cast the indices of TopK to int64, for runtimes that compute them in a narrower type, unlike ONNX.

    v, i = TopK(x, k);  y = Gather(x, i)   ->   y = Gather(x, Cast<int64>(i))

If the indices are an output of the graph, TopK writes a new tensor and the Cast writes the output. Exact: in ONNX they
are int64 already, and the Cast does nothing.

Must not fire: indices that nothing or only Casts read; indices that are the output of a subgraph.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from segc.graph.invariants import PORTABLE, SINGLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import standard
from segc.passes.support.edit import Names, protected, redirect

INT64 = np.dtype(np.int64)


class CastTopKIndices(Pass):
    """Insert a Cast between the indices of TopK and their readers."""

    name = "cast-topk-indices"
    algebra = "Gather(x, i) with v, i = TopK(x, k)  ->  Gather(x, Cast<int64>(i))"
    requires = frozenset({SINGLE})
    ensures = frozenset({"top-k indices cast"})
    invalidates = frozenset({PORTABLE})

    def run(self, graph: gs.Graph) -> PassResult:
        """Insert the Casts."""
        result, names, protected_ids = PassResult(), Names(graph), protected(graph)
        for node in standard(graph, "TopK"):
            indices = node.outputs[1]
            is_output = any(indices is t for t in graph.outputs)
            if id(indices) in protected_ids and not is_output:
                result.skip(node, f"'{indices.name}' is the output of a subgraph")
                continue
            if not is_output and all(user.op == "Cast" for user in indices.outputs):
                continue
            if is_output:
                narrow, wide = names.variable(indices, "narrow", INT64, indices.shape), indices
                node.outputs[1] = narrow
            else:
                narrow, wide = indices, names.variable(indices, "wide", INT64, indices.shape)
                redirect(narrow, wide)
            cast = gs.Node("Cast", attrs={"to": int(onnx.TensorProto.INT64)}, inputs=[narrow], outputs=[wide])
            graph.nodes.insert(1 + next(at for at, n in enumerate(graph.nodes) if n is node), cast)
            result.changes += 1
        return result
