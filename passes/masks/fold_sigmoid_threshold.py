"""Fold a threshold through Sigmoid: compare logits instead of probabilities.

Sigmoid is strictly increasing, so for a constant 0 < t < 1 and l = logit(t) = ln(t / (1 - t))

    Sigmoid(x) >  t  ->  x >  c,   Sigmoid(x) <= t  ->  x <= c,   c  the largest value of x's type that is <= l
    Sigmoid(x) >= t  ->  x >= d,   Sigmoid(x) <  t  ->  x <  d,   d  the smallest value of x's type that is >= l

and likewise with the operands exchanged. Exact in real arithmetic, for every x; where a float Sigmoid rounds to t
itself, the comparison of logits is the correct one. No exponential and no map of probabilities is left.

Must not fire: t <= 0 or t >= 1, where the result depends on where a float Sigmoid saturates; t so near to 0 or 1 that a
float Sigmoid saturates before it; a threshold that is not one constant number; probabilities that are an output or used
elsewhere.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph.invariants import PORTABLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.edit import Names, protected, prune, rank, scalar
from segc.runtime.masks.sigmoid_threshold import SATURATES

# op -> (the op with its operands exchanged, whether the bound is rounded down)
COMPARISONS = {
    "Greater": ("Less", True),
    "LessOrEqual": ("GreaterOrEqual", True),
    "GreaterOrEqual": ("LessOrEqual", False),
    "Less": ("Greater", False),
}


class FoldSigmoidThreshold(Pass):
    """Move a threshold through Sigmoid. Cost: one walk over the nodes."""

    name = "fold-sigmoid-threshold"
    algebra = "Sigmoid(x) > t  ->  x > ln(t / (1 - t))"
    requires = Pass.requires | {PORTABLE}
    ensures = frozenset({"thresholds folded"})

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each comparison where it stands."""
        result, names, protected_ids = PassResult(), Names(graph), protected(graph)
        for node in [n for n in graph.nodes if n.op in COMPARISONS and n.domain is None]:
            index = next((i for i, t in enumerate(node.inputs) if _is_sigmoid(t)), None)
            if index is None:
                continue
            probability = node.inputs[index]
            bound = _bound(node, index, protected_ids)
            if isinstance(bound, str):
                result.skip(node, bound)
                continue
            sigmoid = probability.inputs[0]
            constant = names.constant(node.outputs[0], "logit", bound)
            node.inputs = [sigmoid.inputs[0], constant] if index == 0 else [constant, sigmoid.inputs[0]]
            prune(graph, sigmoid, protected_ids)
            result.changes += 1
        return result


def _is_sigmoid(tensor: gs.Tensor) -> bool:
    return bool(tensor.inputs) and tensor.inputs[0].op == "Sigmoid" and tensor.inputs[0].domain is None


def _bound(node: gs.Node, index: int, protected_ids: set[int]) -> np.ndarray | str:
    """The constant to compare logits with, or the reason why there is none."""
    probability, threshold = node.inputs[index], node.inputs[1 - index]
    value = scalar(threshold)
    if value is None:
        return "the threshold is not one constant number"
    if len(threshold.shape) > (rank(probability) or 0):
        return "the threshold broadcasts the result to a larger shape"
    if id(probability) in protected_ids or len(probability.outputs) != 1:
        return f"'{probability.name}' is also used elsewhere"
    op = node.op if index == 0 else COMPARISONS[node.op][0]
    bound = logit(value, np.dtype(probability.dtype), down=COMPARISONS[op][1])
    if bound is None:
        return f"a float Sigmoid saturates at the threshold {value:g}"
    return bound.reshape(threshold.shape)


def logit(threshold: float, dtype: np.dtype[Any], *, down: bool) -> np.ndarray | None:
    """ln(t / (1 - t)) rounded down or up to a value of `dtype`; None where a Sigmoid in `dtype` has saturated."""
    if min(threshold, 1 - threshold) < max(SATURATES, float(np.finfo(dtype).eps)):
        return None
    exact = math.log(threshold) - math.log1p(-threshold)
    rounded = dtype.type(exact)
    if down and float(rounded) > exact:
        rounded = np.nextafter(rounded, dtype.type(-np.inf))
    if not down and float(rounded) < exact:
        rounded = np.nextafter(rounded, dtype.type(np.inf))
    return np.array(rounded, dtype)
