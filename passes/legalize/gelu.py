"""Expand Gelu (opset 20) into Erf or Tanh.

    Gelu(x)                       ->  x * (0.5 + 0.5 * Erf(x / sqrt(2)))
    Gelu<approximate = tanh>(x)   ->  x * (0.5 + 0.5 * Tanh(sqrt(2/pi) * (x + 0.044715 * x * x * x)))

Each is the definition of that variant. The two differ by up to 5e-4, so neither replaces the other.

Must not fire: values of `approximate` other than none and tanh; an unknown type of x.
"""

from __future__ import annotations

import math

import onnx_graphsurgeon as gs

from segc.graph.invariants import NODE_RULES, PORTABLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Builder, RewriteNotApplicable, rewrite, standard, text, typed


class LegalizeGelu(Pass):
    """Expand Gelu for opsets below 20 and for runtimes without it."""

    name = "legalize-gelu"
    algebra = "Gelu(x)  ->  x * (0.5 + 0.5 * Erf(x / sqrt(2))), or the variant with Tanh"
    ensures = frozenset({"no Gelu"})
    invalidates = NODE_RULES | {PORTABLE}

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each node where it stands."""
        return rewrite(graph, standard(graph, "Gelu"), expand, PassResult())


def expand(b: Builder) -> gs.Tensor:
    """Build the nodes that replace one Gelu. Raises RewriteNotApplicable."""
    x, variant = b.node.inputs[0], text(b.node, "approximate", "none")
    typed(x)
    if variant not in ("none", "tanh"):
        raise RewriteNotApplicable(f"approximate is '{variant}'")
    half = b.const("half", 0.5, x.dtype)
    if variant == "none":
        activation = b.op("Erf", "erf", b.op("Mul", "inner", x, b.const("root", math.sqrt(0.5), x.dtype)))
    else:
        cubic = b.op(
            "Mul", "cubic", b.op("Mul", "cube", b.op("Mul", "square", x, x), x), b.const("c", 0.044715, x.dtype)
        )
        inner = b.op("Mul", "inner", b.op("Add", "sum", x, cubic), b.const("root", math.sqrt(2 / math.pi), x.dtype))
        activation = b.op("Tanh", "tanh", inner)
    return b.op("Mul", "gelu", x, b.op("Add", "gate", b.op("Mul", "halved", activation, half), half))
