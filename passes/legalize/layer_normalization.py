"""Expand LayerNormalization (opset 17) into means.

    LayerNormalization(x, scale, bias)  ->  d / Sqrt(mean(d * d) + epsilon) * scale + bias,   d = x - mean(x)

with means over the axes from `axis` to the last. With stash_type 1 (the default) d / Sqrt(...) is computed in float32
whatever the type of x, as ONNX defines it, so d * d does not overflow in float16.

Exact in real arithmetic; the formula is that of ONNX's own function body.

Must not fire: a node that also returns the mean or the inverse standard deviation; a stash type other than float32; an
unknown rank of x, since the axes must be written.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph.invariants import NODE_RULES, PORTABLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Builder, RewriteNotApplicable, only_output, rewrite, standard, typed
from segc.passes.support.edit import optional
from segc.passes.support.normalization import normalize

FLOAT = np.dtype(np.float32)


class LegalizeLayerNormalization(Pass):
    """Expand LayerNormalization for opsets below 17 and for runtimes without it."""

    name = "legalize-layer-normalization"
    algebra = "LayerNormalization(x)  ->  (x - mean) / Sqrt(mean of squares + epsilon) * scale + bias"
    ensures = frozenset({"no LayerNormalization"})
    invalidates = NODE_RULES | {PORTABLE}

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each node where it stands."""
        return rewrite(graph, standard(graph, "LayerNormalization"), expand, PassResult())


def expand(b: Builder) -> gs.Tensor:
    """Build the nodes that replace one LayerNormalization. Raises RewriteNotApplicable."""
    node, x = b.node, b.node.inputs[0]
    only_output(node)
    typed(x)
    if node.attrs.get("stash_type", 1) != 1:
        raise RewriteNotApplicable(f"its stash_type is {node.attrs['stash_type']}; only float32 expands")
    dims = len(x.shape)
    axes = list(range(node.attrs.get("axis", -1) % dims, dims))
    y = b.cast("narrow", normalize(b, b.cast("wide", x, FLOAT), axes, node.attrs.get("epsilon", 1e-5)), x.dtype)
    y = b.op("Mul", "scaled", y, node.inputs[1])
    bias = optional(node, 2)
    return y if bias is None else b.op("Add", "shifted", y, bias)
