"""Expand PRelu into ops that are faster in ONNX Runtime, with exactly the same numbers.

PRelu(x, slope)  ->  Relu(x) + scale(Relu(scale(x, -1)), -slope)    if the channels fill blocks of 16
                 ->  Max(x, slope * x)                              else if all slopes are above 0 and at most 1
                 ->  Relu(x) + slope * Min(x, 0)                    else

The scales are BatchNormalizations of mean 0 and variance 1. Convolutions leave x in blocks of channels (layout NCHWc);
ONNX Runtime runs BatchNormalization in that layout and fuses the inner Relu into it, while Min, Mul and Max make it
reorder x first. One of the two terms is always 0, and a sign takes no bit, so nothing is rounded twice; only -0 may
become 0. In ONNX Runtime a PRelu with one slope per channel takes 14 times as long as a Mul of that shape, and half the
time of CGNet.

Must not fire: slopes that are not constant, or not finite (0 times infinity is NaN).
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph.invariants import PORTABLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Builder, rewrite, standard
from segc.passes.support.costs import CHANNEL_BLOCK
from segc.passes.support.prelu import constant_slopes, two_terms


class ExpandPRelu(Pass):
    """Expand PRelu with constant slopes into Relu and scaling, Max, or Relu, Min, Mul and Add."""

    name = "expand-prelu"
    algebra = "PRelu(x, slope)  ->  Relu(x) + slope * Min(x, 0), or an equal form that is faster"
    requires = Pass.requires | {"channel blocks filled"}
    ensures = frozenset({"no PRelu"})
    invalidates = frozenset({PORTABLE, "batchnorms fused"})

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each node where it stands."""
        return rewrite(graph, standard(graph, "PRelu"), expand, PassResult())


def expand(b: Builder) -> gs.Tensor:
    """Build the nodes that replace one PRelu. Raises RewriteNotApplicable."""
    x, slope = b.node.inputs[0], constant_slopes(b)
    if (slopes := _slope_per_channel(x, slope.values)) is not None:
        below = _scale_channels(
            b, "below", b.op("Relu", "turned", _scale_channels(b, "negative", x, -np.ones_like(slopes))), -slopes
        )
        return b.op("Add", "bent", b.op("Relu", "above", x), below)
    if ((slope.values > 0) & (slope.values <= 1)).all():  # a slope of 0 would make NaN of infinity
        return b.op("Max", "bent", x, b.op("Mul", "scaled", x, slope))
    return two_terms(b, slope)


def _slope_per_channel(x: gs.Tensor, slope: np.ndarray) -> np.ndarray | None:
    """One slope per channel, if `x` is a feature map whose channels fill blocks; otherwise None."""
    if len(x.shape) != 4 or not isinstance(x.shape[1], (int, np.integer)) or x.shape[1] % CHANNEL_BLOCK:
        return None
    shape = (1,) * (4 - slope.ndim) + slope.shape
    if shape[0] != 1 or shape[2:] != (1, 1):
        return None
    return np.broadcast_to(slope.reshape(-1), (int(x.shape[1]),)).copy()


def _scale_channels(b: Builder, role: str, x: gs.Tensor, factors: np.ndarray) -> gs.Tensor:
    """x with each channel multiplied by its factor."""
    zeros, ones = np.zeros_like(factors), np.ones_like(factors)
    parameters = [
        (f"{role}_factors", factors),
        (f"{role}_bias", zeros),
        (f"{role}_mean", zeros),
        (f"{role}_variance", ones),
    ]
    return b.op("BatchNormalization", role, x, *(b.const(name, values) for name, values in parameters), epsilon=0.0)
