"""Move integers and booleans as int64, for runtimes that have few types.

    Equal(a, b) of int32 or bool      ->  Equal(Cast<int64>(a), Cast<int64>(b))
    Transpose(x) of int32 or bool     ->  Cast<type of x>(Transpose(Cast<int64>(x)))     and all that moves or selects
    Gather(x, i), i of int32          ->  Gather(x, Cast<int64>(i))                       and all other indices
    Pow(x, y) of two types            ->  Pow(x, Cast<type of x>(y))

Exact: int64 holds every int32 and bool, and these ops compute nothing. Pow of floats by an integer is the same power.

Must not fire: on arithmetic, which may overflow in the narrower type; on ops that are named in `keep`; on unsigned and
small integers, which the runtime may not be able to cast at all; and where the type of the result is unknown.
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

    keep: ops that take int32 and bool as they are.
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
        return rewrite(graph, [n for n in standard(graph, *ops) if narrow(n)], spelled, PassResult())


def narrow(node: gs.Node) -> dict[int, np.dtype]:
    """The inputs to cast, and what to."""
    found: dict[int, np.dtype] = {}
    data = {**COMPARES, **MOVES}.get(node.op, ())
    for at in (*data, *INDICES.get(node.op, ())):
        tensor = optional(node, at)
        if tensor is not None and tensor.dtype is not None and np.dtype(tensor.dtype) in NARROW:
            found[at] = INT64
    if node.op == "Pow" and None not in (node.inputs[0].dtype, node.inputs[1].dtype):
        base, power = (np.dtype(t.dtype) for t in node.inputs)
        if base.kind == "f" and power != base:
            found[1] = base
    return found


def spelled(b: Builder) -> gs.Tensor:
    """The new nodes for one site."""
    node, wide = b.node, narrow(b.node)
    typed(b.y)
    given = [_cast(b, at, t, wide.get(at)) for at, t in enumerate(node.inputs)]
    return b.cast("narrow", b.op(node.op, "wide", *given, **node.attrs), b.y.dtype)


def _cast(b: Builder, at: int, tensor: gs.Tensor, to: np.dtype | None) -> gs.Tensor | None:
    if tensor.is_empty():
        return None
    if to is None:
        return tensor
    if isinstance(tensor, gs.Constant):
        return b.const(f"input{at}", tensor.values.astype(to))
    return b.cast(f"input{at}", tensor, to)
