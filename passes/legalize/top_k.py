"""Spell a TopK of many elements as several of few, for runtimes that bound K.

TopK(x, K)  ->  Concat of TopK(x, k1), TopK(x', k2), ...  with k1 + k2 + ... = K and each k at most `most`

x' is x with what is already chosen set to -inf (+inf for the smallest) by ScatterElements, so that it is not chosen
again. Order and ties are those of one TopK: each part takes the best of the rest. PointRend's K is 8196.

TopK(x, Min(n, K))  ->  the first Min(n, K) of TopK(Pad(x, K - Min(n, K) times -inf), K), which is spelled as above

is for a K that follows the image's size, as a dynamic PointRend's does.

Must not fire: K up to `most`; K computed at run time without a Min that bounds it; integers, which have no infinity.
Exact for finite x: where fewer than K elements are finite, an index may come twice.
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
from segc.passes.support.builder import Builder, Cannot, standard, typed
from segc.passes.support.edit import Names, insert, ints

_SAME = frozenset({"Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze"})  # what leaves the value of one number


@dataclass(frozen=True)
class LegalizeTopK(Pass):
    """Rewrite each TopK of more than `most` elements."""

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
            bound = greatest(node.inputs[1])
            if bound is not None and bound <= self.most:
                continue
            builder = Builder(graph, node, names)
            try:
                values, indices = spelled(builder, bound, self.most)
            except Cannot as why:
                builder.discard()
                result.skip(node, str(why))
                continue
            _replace(builder, values, indices)
            result.changes += 1
        return result


def parts(k: int, most: int) -> list[int]:
    """Summands of `k`, all `most` but the last."""
    return [most] * ((k - 1) // most) + [(k - 1) % most + 1]


def greatest(k: gs.Tensor) -> int | None:
    """The greatest value that K can have: its own, or that of a constant in the Min that makes it; None: unknown."""
    known = ints(k)
    if known is not None:
        return known[0]
    maker = k.inputs[0] if k.inputs else None
    if maker is None or maker.domain is not None:
        return None
    if maker.op in _SAME:
        return greatest(maker.inputs[0])
    bounds = [ints(t) for t in maker.inputs] if maker.op == "Min" else []
    return min((bound[0] for bound in bounds if bound), default=None)


def spelled(b: Builder, k: int | None, most: int) -> tuple[gs.Tensor, gs.Tensor]:
    """All values and all indices. k: the greatest K."""
    x, largest = b.node.inputs[0], b.node.attrs.get("largest", 1)
    typed(x)
    if k is None:
        raise Cannot("K is computed at run time, and no Min bounds it")
    if np.dtype(x.dtype).kind != "f":
        raise Cannot(f"{np.dtype(x.dtype).name} has no infinity to mark what is chosen")
    axis = int(b.node.attrs.get("axis", -1)) % len(x.shape)
    top = partial(b.split, "TopK", axis=axis, largest=largest, sorted=b.node.attrs.get("sorted", 1))
    values: list[gs.Tensor] = []
    indices: list[gs.Tensor] = []
    computed = ints(b.node.inputs[1]) is None
    rest = _padded(b, k, axis) if computed else x
    for at, size in enumerate(parts(k, most)):
        if at:
            rest = b.op("ScatterElements", f"rest{at}", rest, indices[-1], _chosen(b, at, indices[-1]), axis=axis)
        best, places = top((f"values{at}", f"indices{at}"), rest, b.const(f"k{at}", [size]))
        values.append(best)
        indices.append(places)
    whole = (("values", values), ("indices", indices))
    if not computed:
        first, second = (b.op("Concat", role, *made, axis=axis) for role, made in whole)
        return first, second
    axes, start = b.const("axis", [axis]), b.const("start", [0])
    first, second = (
        b.op("Slice", role, b.op("Concat", f"{role}_all", *made, axis=axis), start, b.node.inputs[1], axes)
        for role, made in whole
    )
    return first, second


def _mark(b: Builder, role: str, shape: Sequence[int]) -> gs.Constant:
    """What is chosen after everything else."""
    value = -np.inf if b.node.attrs.get("largest", 1) else np.inf
    return b.const(role, np.full(shape, value), b.node.inputs[0].dtype)


def _padded(b: Builder, k: int, axis: int) -> gs.Tensor:
    """x with as many marks behind it as K falls short of `k`, which makes it at least `k` long."""
    x, rank = b.node.inputs[0], len(b.node.inputs[0].shape)
    missing = b.op("Sub", "missing", b.const("greatest", [k]), b.node.inputs[1])
    before, behind = b.const("before", [0] * (rank + axis)), b.const("behind", [0] * (rank - axis - 1))
    pads = b.op("Concat", "pads", before, missing, *([behind] if rank - axis > 1 else []), axis=0)
    padded = b.op("Pad", "padded", x, pads, _mark(b, "pad", []))
    padded.shape = [None if at == axis else size for at, size in enumerate(x.shape)]
    return padded


def _chosen(b: Builder, at: int, places: gs.Tensor) -> gs.Tensor:
    """The mark of what is chosen, in the shape of `places`."""
    shape = ir.static_shape(places)
    size = b.op("Shape", f"shape{at}", places) if shape is None else b.const(f"shape{at}", list(shape))
    return b.op("Expand", f"chosen{at}", _mark(b, f"mark{at}", [1]), size)


def _replace(b: Builder, values: gs.Tensor, indices: gs.Tensor) -> None:
    """Let the new nodes write the old outputs, as far as those exist."""
    old = list(b.node.outputs)
    b.node.inputs.clear()
    b.node.outputs.clear()
    for made, output in zip((values, indices), old, strict=False):
        if not output.is_empty():
            made.inputs[0].outputs = [output]
    insert(b.graph, b.node, b.nodes)
    b.graph.nodes = [n for n in b.graph.nodes if n is not b.node]
