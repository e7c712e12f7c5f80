"""Split a TopK with a large K into several with smaller K, for runtimes that limit K.

TopK(x, K)  ->  Concat of TopK(x, k1), TopK(x', k2), ...  with k1 + k2 + ... = K and each k at most `most`

x' is x with the elements chosen so far set to -inf (+inf for the smallest) by ScatterElements, so that they are not
chosen again. Order and ties are those of one TopK: each part takes the best of the rest. PointRend's K is 8196.

A K that follows the image's size, as in a dynamic PointRend, is padded to its bound first:

TopK(x, Min(n, K))  ->  the first Min(n, K) of TopK(Pad(x, K - Min(n, K) times -inf), K), which is split as above

Must not fire: K up to `most`; K computed at run time without a Min that bounds it; integers, which have no infinity.
Exact for finite x: if fewer than K elements are finite, an index may occur twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph import ir
from segc.graph.invariants import PORTABLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Builder, RewriteNotApplicable, standard, typed
from segc.passes.support.edit import Names, insert, ints

_SAME_VALUE = frozenset({"Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze"})  # ops that keep the value of a scalar


@dataclass(frozen=True)
class LegalizeTopK(Pass):
    """Split each TopK of more than `most` elements."""

    name: ClassVar[str] = "legalize-top-k"
    algebra: ClassVar[str] = "TopK(x, K)  ->  Concat(TopK(x, k1), TopK(x without those, k2), ...)"
    requires: ClassVar[frozenset[str]] = Pass.requires | {"lowerings merged", "identities removed"}
    ensures: ClassVar[frozenset[str]] = frozenset({"top-k bounded"})
    invalidates: ClassVar[frozenset[str]] = frozenset({PORTABLE})

    most: int = 3840

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each node where it stands."""
        result, names = PassResult(), Names(graph)
        for node in standard(graph, "TopK"):
            bound = upper_bound(node.inputs[1])
            if bound is not None and bound <= self.most:
                continue
            builder = Builder(graph, node, names)
            try:
                values, indices = split(builder, bound, self.most)
            except RewriteNotApplicable as why:
                builder.discard()
                result.skip(node, str(why))
                continue
            _replace(builder, values, indices)
            result.changes += 1
        return result


def parts(k: int, most: int) -> list[int]:
    """Summands of `k`: `most` for each but the last."""
    return [most] * ((k - 1) // most) + [(k - 1) % most + 1]


def upper_bound(k: gs.Tensor) -> int | None:
    """An upper bound of K: its value, or that of a constant in the Min that computes it; None if there is none."""
    known = ints(k)
    if known is not None:
        return known[0]
    producer = k.inputs[0] if k.inputs else None
    if producer is None or producer.domain is not None:
        return None
    if producer.op in _SAME_VALUE:
        return upper_bound(producer.inputs[0])
    bounds = [ints(t) for t in producer.inputs] if producer.op == "Min" else []
    return min((bound[0] for bound in bounds if bound), default=None)


def split(b: Builder, k: int | None, most: int) -> tuple[gs.Tensor, gs.Tensor]:
    """Build the values and indices that replace one TopK. k: the upper bound of K. Raises RewriteNotApplicable."""
    x, largest = b.node.inputs[0], b.node.attrs.get("largest", 1)
    typed(x)
    if k is None:
        raise RewriteNotApplicable("its K is computed at run time without a Min that bounds it")
    if np.dtype(x.dtype).kind != "f":
        raise RewriteNotApplicable(f"{np.dtype(x.dtype).name} has no infinity to mark chosen elements with")
    axis = int(b.node.attrs.get("axis", -1)) % len(x.shape)
    top = partial(b.split, "TopK", axis=axis, largest=largest, sorted=b.node.attrs.get("sorted", 1))
    values: list[gs.Tensor] = []
    indices: list[gs.Tensor] = []
    computed = ints(b.node.inputs[1]) is None
    rest = _pad_to(b, k, axis) if computed else x
    for part, size in enumerate(parts(k, most)):
        if part:
            rest = b.op(
                "ScatterElements", f"rest{part}", rest, indices[-1], _sentinels(b, part, indices[-1]), axis=axis
            )
        best, positions = top((f"values{part}", f"indices{part}"), rest, b.const(f"k{part}", [size]))
        values.append(best)
        indices.append(positions)
    parts_by_role = (("values", values), ("indices", indices))
    if not computed:
        first, second = (b.op("Concat", role, *tensors, axis=axis) for role, tensors in parts_by_role)
        return first, second
    axes, start = b.const("axis", [axis]), b.const("start", [0])
    first, second = (
        b.op("Slice", role, b.op("Concat", f"{role}_all", *tensors, axis=axis), start, b.node.inputs[1], axes)
        for role, tensors in parts_by_role
    )
    return first, second


def _sentinel(b: Builder, role: str, shape: Sequence[int]) -> gs.Constant:
    """A value that is chosen after all others: the infinity at the far end."""
    value = -np.inf if b.node.attrs.get("largest", 1) else np.inf
    return b.const(role, np.full(shape, value), b.node.inputs[0].dtype)


def _pad_to(b: Builder, k: int, axis: int) -> gs.Tensor:
    """x with `k` - K sentinels appended, so that it has at least `k` elements."""
    x, rank = b.node.inputs[0], len(b.node.inputs[0].shape)
    missing_ = b.op("Sub", "missing", b.const("greatest", [k]), b.node.inputs[1])
    before, behind = b.const("before", [0] * (rank + axis)), b.const("behind", [0] * (rank - axis - 1))
    pads = b.op("Concat", "pads", before, missing_, *([behind] if rank - axis > 1 else []), axis=0)
    padded = b.op("Pad", "padded", x, pads, _sentinel(b, "pad", []))
    padded.shape = [None if at == axis else size for at, size in enumerate(x.shape)]
    return padded


def _sentinels(b: Builder, part: int, positions: gs.Tensor) -> gs.Tensor:
    """Sentinels for the chosen elements, in the shape of `positions`."""
    shape = ir.static_shape(positions)
    size = b.op("Shape", f"shape{part}", positions) if shape is None else b.const(f"shape{part}", list(shape))
    return b.op("Expand", f"chosen{part}", _sentinel(b, f"mark{part}", [1]), size)


def _replace(b: Builder, values: gs.Tensor, indices: gs.Tensor) -> None:
    """Let the new nodes write those of the old outputs that exist."""
    old = list(b.node.outputs)
    b.node.inputs.clear()
    b.node.outputs.clear()
    for result, output in zip((values, indices), old, strict=False):
        if not output.is_empty():
            result.inputs[0].outputs = [output]
    insert(b.graph, b.node, b.nodes)
    b.graph.nodes = [n for n in b.graph.nodes if n is not b.node]
