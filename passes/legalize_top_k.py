"""Spell a TopK of many elements as several of few, for runtimes that bound K.

TopK(x, K)  ->  Concat of TopK(x, k1), TopK(x', k2), ...  with k1 + k2 + ... = K and each k at most `most`

x' is x with what is already chosen set to -inf (+inf for the smallest) by ScatterElements, so that it is not chosen
again. Order and ties are those of one TopK: each part takes the best of the rest. PointRend's K is 8192.

Must not fire: K up to `most`; K computed at run time; integers, which have no infinity. Exact for finite x: where fewer
than K elements are finite, an index may come twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from segc import ir
from segc.passes.base import Pass, PassResult
from segc.passes.build import Builder, Cannot, standard, typed
from segc.passes.edit import Names, insert, ints


@dataclass(frozen=True)
class LegalizeTopK(Pass):
    """Rewrite each TopK of more than `most` elements."""

    name: ClassVar[str] = "legalize-top-k"
    algebra: ClassVar[str] = "TopK(x, K)  ->  Concat(TopK(x, k1), TopK(x without those, k2), ...)"

    most: int = 3840

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each node where it stands."""
        result, names = PassResult(), Names(graph)
        for node in standard(graph, "TopK"):
            known = ints(node.inputs[1])
            if known is not None and known[0] <= self.most:
                continue
            builder = Builder(graph, node, names)
            try:
                values, indices = spelled(builder, None if known is None else known[0], self.most)
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


def spelled(b: Builder, k: int | None, most: int) -> tuple[gs.Tensor, gs.Tensor]:
    """All values and all indices."""
    x, largest = b.node.inputs[0], b.node.attrs.get("largest", 1)
    typed(x)
    if k is None:
        raise Cannot("K is computed at run time")
    if np.dtype(x.dtype).kind != "f":
        raise Cannot(f"{np.dtype(x.dtype).name} has no infinity to mark what is chosen")
    axis = int(b.node.attrs.get("axis", -1)) % len(x.shape)
    top = partial(b.split, "TopK", axis=axis, largest=largest, sorted=b.node.attrs.get("sorted", 1))
    values: list[gs.Tensor] = []
    indices: list[gs.Tensor] = []
    rest = x
    for at, size in enumerate(parts(k, most)):
        if at:
            rest = b.op("ScatterElements", f"rest{at}", rest, indices[-1], _chosen(b, at, indices[-1]), axis=axis)
        best, places = top((f"values{at}", f"indices{at}"), rest, b.const(f"k{at}", [size]))
        values.append(best)
        indices.append(places)
    return b.op("Concat", "values", *values, axis=axis), b.op("Concat", "indices", *indices, axis=axis)


def _chosen(b: Builder, at: int, places: gs.Tensor) -> gs.Tensor:
    """The mark of what is chosen, in the shape of `places`."""
    x = b.node.inputs[0]
    mark = np.array([-np.inf if b.node.attrs.get("largest", 1) else np.inf], x.dtype)
    shape = ir.static_shape(places)
    size = b.op("Shape", f"shape{at}", places) if shape is None else b.const(f"shape{at}", list(shape))
    return b.op("Expand", f"chosen{at}", b.const(f"mark{at}", mark), size)


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
