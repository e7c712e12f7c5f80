"""Widen int32 and bool to int64 around ops that move, select or compare, for runtimes with few types.

    Equal(a, b) of int32 or bool      ->  Equal(Cast<int64>(a), Cast<int64>(b))
    Transpose(x) of int32 or bool     ->  Cast<type of x>(Transpose(Cast<int64>(x)))     and all that moves or selects
    Gather(x, i), i of int32          ->  Gather(x, Cast<int64>(i))                       and all other indices
    Pow(x, y) of two types            ->  Pow(x, Cast<type of x>(y))

Exact: int64 holds every int32 and bool, and these ops compute nothing. Pow of floats by an integer is the same power.

Must not fire: arithmetic, which may overflow in the narrower type; ops listed in `keep`; unsigned and small integers,
which the runtime may not be able to cast; results of unknown type.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph.invariants import FORM_RULES, PORTABLE, SINGLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Builder, rewrite, standard, typed
from segc.passes.support.edit import optional

INT64 = np.dtype(np.int64)
NARROW = (np.dtype(np.int32), np.dtype(np.bool_))
COMPARES: dict[str, tuple[int, ...]] = dict.fromkeys(("Equal", "Greater", "Less"), (0, 1))
MOVES: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("Slice", "Transpose", "Tile", "Expand", "Gather"), (0,)),
    "Where": (1, 2),
    "ReduceMax": (0,),
    "ReduceMin": (0,),
}
INDICES: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("Gather", "GatherElements", "ScatterElements"), (1,)),
    "Slice": (1, 2, 3, 4),
}


@dataclass(frozen=True)
class LegalizeTypes(Pass):
    """Widen int32 and bool to int64 around ops that compare, move or select; make indices int64.

    keep: ops for which the runtime accepts int32 and bool.
    """

    name: ClassVar[str] = "legalize-types"
    algebra: ClassVar[str] = "Op(x) of int32 or bool  ->  Cast(Op(Cast<int64>(x))) where Op moves, selects or compares"
    requires: ClassVar[frozenset[str]] = frozenset({SINGLE})
    ensures: ClassVar[frozenset[str]] = frozenset({"types legalized"})
    invalidates: ClassVar[frozenset[str]] = FORM_RULES | {PORTABLE}

    keep: tuple[str, ...] = ()

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each node where it stands."""
        ops = [op for op in {**COMPARES, **MOVES, **INDICES, "Pow": ()} if op not in self.keep]
        return rewrite(graph, [n for n in standard(graph, *ops) if inputs_to_cast(n)], widen, PassResult())


def inputs_to_cast(node: gs.Node) -> dict[int, np.dtype]:
    """The inputs to cast, by index, and the type of each cast."""
    casts: dict[int, np.dtype] = {}
    data = {**COMPARES, **MOVES}.get(node.op, ())
    for index in (*data, *INDICES.get(node.op, ())):
        tensor = optional(node, index)
        if tensor is not None and tensor.dtype is not None and np.dtype(tensor.dtype) in NARROW:
            casts[index] = INT64
    if node.op == "Pow" and None not in (node.inputs[0].dtype, node.inputs[1].dtype):
        base, power = (np.dtype(t.dtype) for t in node.inputs)
        if base.kind == "f" and power != base:
            casts[1] = base
    return casts


def widen(b: Builder) -> gs.Tensor:
    """Build the nodes that replace one op. Raises RewriteNotApplicable."""
    node, dtypes = b.node, inputs_to_cast(b.node)
    typed(b.y)
    operands = [_cast(b, index, t, dtypes.get(index)) for index, t in enumerate(node.inputs)]
    return b.cast("narrow", b.op(node.op, "wide", *operands, **node.attrs), b.y.dtype)


def _cast(b: Builder, index: int, tensor: gs.Tensor, to: np.dtype | None) -> gs.Tensor:
    if to is None:
        return tensor
    if isinstance(tensor, gs.Constant):
        return b.const(f"input{index}", tensor.values.astype(to))
    return b.cast(f"input{index}", tensor, to)
