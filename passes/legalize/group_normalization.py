"""Spell GroupNormalization, an op of opset 18, as instances of groups.

    GroupNormalization(x, scale, bias)  ->  Reshape(InstanceNormalization(Reshape(x, [N, groups, -1]))) * scale + bias

A group is normalised over its channels and all its pixels, so it is one instance of a map with `groups` channels.
Scale and bias hold one number a group in opsets 18 to 20 (then they are those of the InstanceNormalization) and one a
channel from opset 21 on (then they follow). With as many groups as channels the two agree. Exact in real arithmetic.

spelling = "means" writes (x - mean) / Sqrt(variance + epsilon) instead of an InstanceNormalization.

Must not fire: where type or rank are unknown, or scale and bias have a shape of neither opset.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph.invariants import NODE_RULES, PORTABLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Axis, Builder, Cannot, rewrite, standard, typed
from segc.passes.support.normalization import normalized, per_channel

Spelling = Literal["instance", "means"]


@dataclass(frozen=True)
class LegalizeGroupNormalization(Pass):
    """Rewrite GroupNormalization for opsets below 18 and for runtimes without it."""

    name: ClassVar[str] = "legalize-group-normalization"
    algebra: ClassVar[str] = "GroupNormalization(x)  ->  Reshape(InstanceNormalization(Reshape(x))) * scale + bias"
    ensures: ClassVar[frozenset[str]] = frozenset({"no GroupNormalization"})
    invalidates: ClassVar[frozenset[str]] = NODE_RULES | {PORTABLE, "no InstanceNormalization"}

    spelling: Spelling = "instance"

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each node where it stands."""
        return rewrite(graph, standard(graph, "GroupNormalization"), partial(spelled, self.spelling), PassResult())


def spelled(spelling: Spelling, b: Builder) -> gs.Tensor:
    """The new nodes for one site."""
    x, scale, bias = b.node.inputs
    typed(x, scale, bias)
    groups, dims, dtype = int(b.node.attrs["num_groups"]), len(x.shape), x.dtype
    per_group = _counts_groups(b, groups)
    epsilon = b.node.attrs.get("epsilon", 1e-5)
    stacked = b.op("Reshape", "groups", x, b.const("groups_shape", [0, groups, -1]))
    if spelling == "instance":
        ones, zeros = b.const("ones", np.ones(groups, dtype)), b.const("zeros", np.zeros(groups, dtype))
        both = (scale, bias) if per_group else (ones, zeros)
        y: gs.Tensor = b.op("InstanceNormalization", "normalized", stacked, *both, epsilon=epsilon)
    else:
        wide = b.cast("wide", stacked, np.float32) if b.node.attrs.get("stash_type", 1) == 1 else stacked
        y = b.cast("narrow", normalized(b, wide, [2], epsilon), dtype)
        if per_group:
            y = b.op("Mul", "scaled", y, per_channel(b, "scale", scale, 3))
            y = b.op("Add", "shifted", y, per_channel(b, "bias", bias, 3))
    sizes: list[int | Axis | list[int | Axis]] = [(x, at) for at in range(dims)]
    y = b.reshape("map", y, sizes)
    if per_group:
        return y
    y = b.op("Mul", "scaled", y, per_channel(b, "scale", scale, dims))
    return b.op("Add", "shifted", y, per_channel(b, "bias", bias, dims))


def _counts_groups(b: Builder, groups: int) -> bool:
    """Whether scale and bias hold a number for each group, rather than for each channel."""
    channels, size = b.node.inputs[0].shape[1], b.node.inputs[1].shape[0]
    want = groups if b.opset < 21 else channels
    if isinstance(size, int) and isinstance(want, int) and size != want:
        raise Cannot(f"opset {b.opset} wants {want} scales, there are {size}")
    return b.opset < 21
