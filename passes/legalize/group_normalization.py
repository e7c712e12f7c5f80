"""Lower GroupNormalization (opset 18) to InstanceNormalization of the groups, or expand it into means.

    GroupNormalization(x, scale, bias)  ->  Reshape(InstanceNormalization(Reshape(x, [N, groups, -1]))) * scale + bias

A group is normalized over its channels and all its pixels, so it is one instance of a map with `groups` channels. Scale
and bias hold one number per group in opsets 18 to 20 (and belong to the InstanceNormalization), one per channel from
opset 21 on (and follow it). With as many groups as channels the two agree. Exact in real arithmetic.

lowering = "means" writes (x - mean) / Sqrt(variance + epsilon) instead of an InstanceNormalization.

Must not fire: an unknown type or rank; a scale and bias whose shape fits neither definition.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph.invariants import NODE_RULES, PORTABLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Axis, Builder, RewriteNotApplicable, rewrite, standard, typed
from segc.passes.support.normalization import normalize, per_channel

Lowering = Literal["instance", "means"]


@dataclass(frozen=True)
class LegalizeGroupNormalization(Pass):
    """Lower GroupNormalization for opsets below 18 and for runtimes without it. lowering: the form to use."""

    name: ClassVar[str] = "legalize-group-normalization"
    algebra: ClassVar[str] = "GroupNormalization(x)  ->  Reshape(InstanceNormalization(Reshape(x))) * scale + bias"
    ensures: ClassVar[frozenset[str]] = frozenset({"no GroupNormalization"})
    invalidates: ClassVar[frozenset[str]] = NODE_RULES | {PORTABLE, "no InstanceNormalization"}

    lowering: Lowering = "instance"

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each node where it stands."""
        return rewrite(graph, standard(graph, "GroupNormalization"), partial(lower, self.lowering), PassResult())


def lower(lowering: Lowering, b: Builder) -> gs.Tensor:
    """Build the nodes that replace one GroupNormalization. Raises RewriteNotApplicable."""
    x, scale, bias = b.node.inputs
    typed(x, scale, bias)
    groups, dims, dtype = int(b.node.attrs["num_groups"]), len(x.shape), x.dtype
    per_group = _is_per_group(b, groups)
    epsilon = b.node.attrs.get("epsilon", 1e-5)
    stacked = b.op("Reshape", "groups", x, b.const("groups_shape", [0, groups, -1]))
    if lowering == "instance":
        ones, zeros = b.const("ones", np.ones(groups, dtype)), b.const("zeros", np.zeros(groups, dtype))
        affine = (scale, bias) if per_group else (ones, zeros)
        y: gs.Tensor = b.op("InstanceNormalization", "normalized", stacked, *affine, epsilon=epsilon)
    else:
        wide = b.cast("wide", stacked, np.float32) if b.node.attrs.get("stash_type", 1) == 1 else stacked
        y = b.cast("narrow", normalize(b, wide, [2], epsilon), dtype)
        if per_group:
            y = b.op("Mul", "scaled", y, per_channel(b, "scale", scale, 3))
            y = b.op("Add", "shifted", y, per_channel(b, "bias", bias, 3))
    sizes: list[int | Axis | list[int | Axis]] = [(x, at) for at in range(dims)]
    y = b.reshape("map", y, sizes)
    if per_group:
        return y
    y = b.op("Mul", "scaled", y, per_channel(b, "scale", scale, dims))
    return b.op("Add", "shifted", y, per_channel(b, "bias", bias, dims))


def _is_per_group(b: Builder, groups: int) -> bool:
    """Whether scale and bias hold one number per group, not per channel.

    Raises RewriteNotApplicable if their size fits neither.
    """
    channels, size = b.node.inputs[0].shape[1], b.node.inputs[1].shape[0]
    expected = groups if b.opset < 21 else channels
    if isinstance(size, int) and isinstance(expected, int) and size != expected:
        raise RewriteNotApplicable(f"opset {b.opset} requires {expected} scales, it has {size}")
    return b.opset < 21
