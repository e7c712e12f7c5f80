"""Expand arithmetic ops into simpler ones, for runtimes without them.

    Abs(x)             ->  Relu(x) + Relu(-x)                 floats
    Reciprocal(x)      ->  1 / x
    Mean(x, y, ...)    ->  (x + y + ...) / n
    Sum(x, y, ...)     ->  x + y + ...
    HardSigmoid(x)     ->  Clip(alpha x + beta, 0, 1)         floats
    Mod(x, m)          ->  r + m if r < 0 else r,  r = x - (x / m) * m       integers, a constant m > 0
    Pow(x, n)          ->  x * x * ... * x                    integers, a constant n from 1 to 8
    ReduceL1(x)        ->  ReduceSum(Relu(x) + Relu(-x))      floats, axes given
    ReduceL2(x)        ->  Sqrt(ReduceSum(x * x))
    ReduceLogSum(x)    ->  Log(ReduceSum(x))                  floats
    ReduceSumSquare(x) ->  ReduceSum(x * x)
    Sign(x)            ->  Where(x > 0, 1, Where(x < 0, -1, x))              not of unsigned numbers
    GlobalMaxPool(x)   ->  ReduceMax(x) over the sides
    Min(x, y), Max(x, y)  ->  Where(Less(x, y), x, y), Where(Greater(x, y), x, y)      integers
    GreaterOrEqual(x, y), LessOrEqual(x, y)  ->  Not(Less(x, y)), Not(Greater(x, y))      integers

Each expansion is the definition of the op in real arithmetic. That of Mod is correct whether integer division truncates
or floors.

Must not fire: ops that are not in `ops`; Sign of unsigned numbers; Abs and ReduceL1 of integers, whose smallest number
cannot be negated; Mod of floats or by anything other than positive constants; comparisons, Min, Max and Pow of floats;
other exponents.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph.invariants import FORM_RULES, PORTABLE, SINGLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Builder, RewriteNotApplicable, rewrite, standard, typed
from segc.passes.support.edit import ints, optional, small_constant

INTEGER_ONLY = ("Max", "Min", "Pow")  # expanded for integers only: every runtime has them for floats
MAX_EXPONENT = 8


@dataclass(frozen=True)
class LegalizeArithmetic(Pass):
    """Expand the listed ops, each into the composition that defines it. ops: any of the left sides above."""

    name: ClassVar[str] = "legalize-arithmetic"
    algebra: ClassVar[str] = "Abs, Reciprocal, Mean, Mod, ReduceL1, ...  ->  Relu, Div, Sub, Mul, ReduceSum, ..."
    requires: ClassVar[frozenset[str]] = frozenset({SINGLE})
    ensures: ClassVar[frozenset[str]] = frozenset({"arithmetic legalized"})
    invalidates: ClassVar[frozenset[str]] = FORM_RULES | {PORTABLE, "types legalized"}

    ops: tuple[str, ...] = (
        "Abs", "GlobalMaxPool", "GreaterOrEqual", "HardSigmoid", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Pow",
        "Reciprocal", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceSumSquare", "Sign", "Sum",
    )  # fmt: skip

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each node where it stands."""
        sites = [n for n in standard(graph, *self.ops) if n.op not in INTEGER_ONLY or is_integer_op(n)]
        return rewrite(graph, sites, expand, PassResult())


def is_integer_op(node: gs.Node) -> bool:
    """Whether the first input of the node is known to hold integers."""
    return node.inputs[0].dtype is not None and np.dtype(node.inputs[0].dtype).kind in "iu"


def expand(b: Builder) -> gs.Tensor:
    """Build the nodes that replace one op. Raises RewriteNotApplicable."""
    typed(*b.node.inputs[:1])
    return EXPANSIONS[b.node.op](b)


def _require_float(b: Builder) -> gs.Tensor:
    x: gs.Tensor = b.node.inputs[0]
    if np.dtype(x.dtype).kind != "f":
        raise RewriteNotApplicable(f"'{x.name}' is {np.dtype(x.dtype).name}")
    return x


def _require_integer(b: Builder) -> list[gs.Tensor]:
    x: gs.Tensor = b.node.inputs[0]
    if np.dtype(x.dtype).kind not in "iu":
        raise RewriteNotApplicable(f"'{x.name}' is {np.dtype(x.dtype).name}")
    return list(b.node.inputs)


def _magnitude(b: Builder, x: gs.Tensor) -> gs.Tensor:
    below = b.op("Relu", "below", b.op("Neg", "negative", x))
    return b.op("Add", "magnitude", b.op("Relu", "above", x), below)


def _abs(b: Builder) -> gs.Tensor:
    return _magnitude(b, _require_float(b))


def _reciprocal(b: Builder) -> gs.Tensor:
    x = b.node.inputs[0]
    return b.op("Div", "inverse", b.const("one", 1, x.dtype), x)


def _sign(b: Builder) -> gs.Tensor:
    """What is neither above nor below 0 is itself: 0 or not a number."""
    x = b.node.inputs[0]
    if np.dtype(x.dtype).kind not in "fi":
        raise RewriteNotApplicable(f"'{x.name}' is {np.dtype(x.dtype).name}")
    zero, one, less = (b.const(role, number, x.dtype) for role, number in (("zero", 0), ("one", 1), ("less", -1)))
    lower = b.op("Where", "lower", b.op("Less", "below", x, zero), less, x)
    return b.op("Where", "sign", b.op("Greater", "above", x, zero), one, lower)


def _sum(b: Builder) -> gs.Tensor:
    total: gs.Tensor = b.node.inputs[0]
    for at, x in enumerate(b.node.inputs[1:]):
        total = b.op("Add", f"sum{at}", total, x)
    return total


def _mean(b: Builder) -> gs.Tensor:
    total = _sum(b)
    return b.op("Div", "mean", total, b.const("count", len(b.node.inputs), total.dtype))


def _hard_sigmoid(b: Builder) -> gs.Tensor:
    x, attrs = _require_float(b), b.node.attrs
    slope, offset = b.const("alpha", attrs.get("alpha", 0.2), x.dtype), b.const("beta", attrs.get("beta", 0.5), x.dtype)
    line = b.op("Add", "line", b.op("Mul", "scaled", x, slope), offset)
    return b.op("Clip", "gate", line, b.const("least", 0, x.dtype), b.const("most", 1, x.dtype))


def _mod(b: Builder) -> gs.Tensor:
    x, divisor = _require_integer(b)
    values = small_constant(divisor)
    if values is None or (values <= 0).any():
        raise RewriteNotApplicable(f"'{divisor.name}' is not a positive constant")
    multiple = b.op("Mul", "whole", b.op("Div", "quotient", x, divisor), divisor)
    rest = b.op("Sub", "rest", x, multiple)
    below = b.op("Less", "below", rest, b.const("zero", 0, x.dtype))
    return b.op("Where", "mod", below, b.op("Add", "raised", rest, divisor), rest)


def _reduce(b: Builder, x: gs.Tensor) -> gs.Tensor:
    """The ReduceSum of `x` over the axes of the node."""
    node = b.node
    axes = list(node.attrs["axes"]) if "axes" in node.attrs else ints(optional(node, 1))
    if axes is None and optional(node, 1) is not None:
        raise RewriteNotApplicable("axes are computed at run time")
    if not axes:
        if node.attrs.get("noop_with_empty_axes", 0):
            return x
        axes = list(range(len(x.shape)))
    return b.reduce("ReduceSum", "sum", x, axes, bool(node.attrs.get("keepdims", 1)))


def _reduce_l1(b: Builder) -> gs.Tensor:
    return _reduce(b, _magnitude(b, _require_float(b)))


def _reduce_squares(b: Builder) -> gs.Tensor:
    x = b.node.inputs[0]
    return _reduce(b, b.op("Mul", "squares", x, x))


def _reduce_l2(b: Builder) -> gs.Tensor:
    _require_float(b)
    return b.op("Sqrt", "norm", _reduce_squares(b))


def _reduce_log_sum(b: Builder) -> gs.Tensor:
    return b.op("Log", "log", _reduce(b, _require_float(b)))


def _global_max(b: Builder) -> gs.Tensor:
    x = b.node.inputs[0]
    return b.reduce("ReduceMax", "greatest", x, list(range(2, len(x.shape))))


def _pow(b: Builder) -> gs.Tensor:
    x, exponent = _require_integer(b)
    values = ints(exponent)
    if values is None or len(values) != 1 or not 1 <= values[0] <= MAX_EXPONENT or len(exponent.shape) > len(x.shape):
        raise RewriteNotApplicable(f"'{exponent.name}' is not a constant from 1 to {MAX_EXPONENT}")
    power: gs.Tensor = x
    for at in range(2, values[0] + 1):
        power = b.op("Mul", f"power{at}", power, x)
    return power


def _expand_min_max(strict: str) -> Callable[[Builder], gs.Tensor]:
    def expand_op(b: Builder) -> gs.Tensor:
        chosen, *rest = _require_integer(b)
        for at, other in enumerate(rest):
            chosen = b.op("Where", f"chosen{at}", b.op(strict, f"wins{at}", chosen, other), chosen, other)
        return chosen

    return expand_op


def _expand_comparison(strict: str) -> Callable[[Builder], gs.Tensor]:
    def expand_op(b: Builder) -> gs.Tensor:
        return b.op("Not", "not", b.op(strict, "strict", *_require_integer(b)))

    return expand_op


EXPANSIONS: dict[str, Callable[[Builder], gs.Tensor]] = {
    "Abs": _abs,
    "Reciprocal": _reciprocal,
    "Mean": _mean,
    "Sign": _sign,
    "Sum": _sum,
    "HardSigmoid": _hard_sigmoid,
    "Mod": _mod,
    "ReduceL1": _reduce_l1,
    "ReduceL2": _reduce_l2,
    "ReduceLogSum": _reduce_log_sum,
    "ReduceSumSquare": _reduce_squares,
    "GlobalMaxPool": _global_max,
    "Pow": _pow,
    "Min": _expand_min_max("Less"),
    "Max": _expand_min_max("Greater"),
    "GreaterOrEqual": _expand_comparison("Less"),
    "LessOrEqual": _expand_comparison("Greater"),
}
