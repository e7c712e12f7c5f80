"""Expand InstanceNormalization into means.

    InstanceNormalization(x, scale, bias)  ->  (x - mean) / Sqrt(variance + epsilon) * scale + bias

with mean and variance over the axes from 2 on, and scale and bias along axis 1. Exact in real arithmetic.

Must not fire: an unknown type or rank of x; a tensor without spatial axes, which has no instances to normalize.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from segc.graph.invariants import NODE_RULES, PORTABLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Builder, RewriteNotApplicable, rewrite, standard, typed
from segc.passes.support.normalization import normalize, per_channel


class LegalizeInstanceNormalization(Pass):
    """Expand InstanceNormalization for runtimes without it."""

    name = "legalize-instance-normalization"
    algebra = "InstanceNormalization(x)  ->  (x - mean) / Sqrt(variance + epsilon) * scale + bias"
    ensures = frozenset({"no InstanceNormalization"})
    invalidates = NODE_RULES | {PORTABLE}

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each node where it stands."""
        return rewrite(graph, standard(graph, "InstanceNormalization"), expand, PassResult())


def expand(b: Builder) -> gs.Tensor:
    """Build the nodes that replace one InstanceNormalization. Raises RewriteNotApplicable."""
    x, scale, bias = b.node.inputs
    typed(x, scale, bias)
    dims = len(x.shape)
    if dims < 3:
        raise RewriteNotApplicable(f"'{x.name}' has {dims} axes, none of them spatial")
    y = normalize(b, x, list(range(2, dims)), b.node.attrs.get("epsilon", 1e-5))
    y = b.op("Mul", "scaled", y, per_channel(b, "scale", scale, dims))
    return b.op("Add", "shifted", y, per_channel(b, "bias", bias, dims))
