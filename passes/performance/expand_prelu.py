"""Spell PRelu in operators that ONNX Runtime is quick at, with the very same numbers.

PRelu(x, slope)  ->  Relu(x) + scale(Relu(scale(x, -1)), -slope)    channels that can lie in blocks of 16
                 ->  Max(x, slope * x)                              else, all slopes above 0 and at most 1
                 ->  Relu(x) + slope * Min(x, 0)                    else

The scales are BatchNormalization of mean 0 and variance 1: where x lies in blocks of channels, as convolutions leave
it, ONNX Runtime keeps them there and puts the inner Relu into them, while Min, Mul and Max have x put in order. One of
two terms is always 0 and signs cost no bits, so nothing is rounded twice; only a -0 may become 0. ONNX Runtime takes
14 times as long for PRelu with a slope for each channel as for a product of that shape: half the time of CGNet.

Must not fire: slopes that are not constant, or not finite (0 times infinity is NaN).
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph.invariants import PORTABLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Builder, Cannot, rewrite, standard, typed
from segc.passes.support.costs import CHANNEL_BLOCK


class ExpandPRelu(Pass):
    """Rewrite PRelu with constant slopes into Relu and scaling, Max, or Relu, Min, Mul and Add."""

    name = "expand-prelu"
    algebra = "PRelu(x, slope)  ->  Relu(x) + slope * Min(x, 0), or an equal spelling that is quicker"
    requires = Pass.requires | {"channel blocks filled"}
    ensures = frozenset({"no PRelu"})
    invalidates = frozenset({PORTABLE, "batchnorms fused"})

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each node where it stands."""
        return rewrite(graph, standard(graph, "PRelu"), spelled, PassResult())


def spelled(b: Builder) -> gs.Tensor:
    """The new nodes for one site."""
    x, slope = b.node.inputs
    typed(x)
    if not isinstance(slope, gs.Constant):
        raise Cannot("its slope is not constant")
    if not np.isfinite(slope.values).all():
        raise Cannot("a slope is not finite")
    if (slopes := _of_channels(x, slope.values)) is not None:
        below = _scaled(b, "below", b.op("Relu", "turned", _scaled(b, "negative", x, -np.ones_like(slopes))), -slopes)
        return b.op("Add", "bent", b.op("Relu", "above", x), below)
    if ((slope.values > 0) & (slope.values <= 1)).all():  # a slope of 0 would make NaN of infinity
        return b.op("Max", "bent", x, b.op("Mul", "scaled", x, slope))
    below = b.op("Mul", "scaled", b.op("Min", "below", x, b.const("zero", 0, x.dtype)), slope)
    return b.op("Add", "bent", b.op("Relu", "above", x), below)


def _of_channels(x: gs.Tensor, slope: np.ndarray) -> np.ndarray | None:
    """A slope for each channel of a feature map whose channels fill blocks, or None."""
    if (
        x.shape is None
        or len(x.shape) != 4
        or not isinstance(x.shape[1], (int, np.integer))
        or x.shape[1] % CHANNEL_BLOCK
    ):
        return None
    shape = (1,) * (4 - slope.ndim) + slope.shape
    if shape[0] != 1 or shape[2:] != (1, 1):
        return None
    return np.broadcast_to(slope.reshape(-1), (int(x.shape[1]),)).copy()


def _scaled(b: Builder, role: str, x: gs.Tensor, factors: np.ndarray) -> gs.Tensor:
    """Each channel of x times its factor."""
    zeros, ones = np.zeros_like(factors), np.ones_like(factors)
    given = [(f"{role}_factors", factors), (f"{role}_bias", zeros), (f"{role}_mean", zeros), (f"{role}_variance", ones)]
    return b.op("BatchNormalization", role, x, *(b.const(name, values) for name, values in given), epsilon=0.0)
