"""Spell ScatterElements along the last axis by comparing and multiplying; PointRend puts its points back like this.

    hot = Equal(indices[..., K, 1], [0 .. P-1])           one row a point, one column a cell of the last axis
    ScatterElements(data, indices, updates)  ->  Where(any row hot, updates @ hot, data)

Where the same indices hold for all of axis -2 (an Expand of one row, as PointRend has it) the rows of that axis share
`hot`. Each cell of the product is one update times 1 and otherwise zeros, so it is exact for every finite update.

Cost: K * P numbers for `hot`, and K * P products for each row; `limit` bounds the former.

Must not fire: unless the indices are known to differ: a constant without duplicates, or those of a TopK along the last
axis, moved and expanded along others (a sum of two updates would be neither of them); with a reduction; along another
axis than the last; for integers; where updates are a constant that is not finite; where sizes are not static, or other
sizes than that of the last axis differ; and beyond `limit`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph import ir
from segc.graph.invariants import NODE_RULES, PORTABLE
from segc.passes.base import Pass, PassResult
from segc.passes.support.builder import Builder, Cannot, rewrite, standard, text, typed
from segc.passes.support.edit import ints, optional, rank


@dataclass(frozen=True)
class LegalizeScatterElements(Pass):
    """Rewrite ScatterElements of distinct indices along the last axis. limit: elements of the comparison."""

    name: ClassVar[str] = "legalize-scatter-elements"
    algebra: ClassVar[str] = "ScatterElements(data, i, u)  ->  Where(any hot, u @ hot, data) with hot = Equal(i, cells)"
    ensures: ClassVar[frozenset[str]] = frozenset({"no ScatterElements"})
    invalidates: ClassVar[frozenset[str]] = NODE_RULES | {PORTABLE}

    limit: int = 2**26

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each node where it stands."""
        return rewrite(graph, standard(graph, "ScatterElements"), partial(spelled, self.limit), PassResult())


def repeats(indices: np.ndarray, size: int) -> bool:
    """Whether two indices along the last axis name the same of `size` cells; negative ones count from the end."""
    rows = np.sort(np.where(indices < 0, indices + size, indices), axis=-1)
    return bool((rows[..., 1:] == rows[..., :-1]).any())


def spelled(limit: int, b: Builder) -> gs.Tensor:
    """The new nodes for one site."""
    data, indices, updates = b.node.inputs
    typed(data, indices, updates)
    cells = _sizes(b)
    require_distinct(indices, cells)
    shared = _shared(indices)
    hot_shape = [*(ir.static_shape(shared or indices) or ()), cells]
    if math.prod(hot_shape) > limit:
        raise Cannot(f"it would compare {math.prod(hot_shape)} numbers, the limit is {limit}")
    dims = len(data.shape)
    if shared is None:
        hot = _hot(b, indices, cells)
        row = b.unsqueeze("row", updates, [dims - 1])
        put = b.squeeze("put", b.op("MatMul", "product", row, hot), [dims - 1])
        hit = b.reduce("ReduceMax", "hit", hot, [dims - 1], keepdims=False)
    else:
        hot = b.squeeze("hot", _hot(b, shared, cells), [dims - 2])
        put = b.op("MatMul", "product", updates, hot)
        hit = b.reduce("ReduceMax", "hit", hot, [dims - 2])
    return b.op("Where", "scattered", b.cast("any", hit, np.bool_), put, data)


def _hot(b: Builder, indices: gs.Tensor, cells: int) -> gs.Tensor:
    """[..., K, P] in the type of the data: 1 where an index names the cell."""
    columns = b.unsqueeze("column", indices, [len(indices.shape)])
    numbers = b.const("cells", np.arange(cells, dtype=indices.dtype))
    return b.cast("number", b.op("Equal", "equal", columns, numbers), b.node.inputs[0].dtype)


def _sizes(b: Builder) -> int:
    """Cells of the last axis. Raises Cannot where this pass does not apply."""
    node = b.node
    data, indices, updates = node.inputs
    dims = len(data.shape)
    if text(node, "reduction", "none") != "none":
        raise Cannot(f"reduction is {text(node, 'reduction')}")
    if node.attrs.get("axis", 0) % dims != dims - 1:
        raise Cannot(f"it scatters along axis {node.attrs.get('axis', 0)}, not along the last")
    if np.dtype(data.dtype).kind != "f":
        raise Cannot(f"'{data.name}' is {np.dtype(data.dtype).name}")
    into, points = ir.static_shape(data), ir.static_shape(indices)
    if into is None or points is None:
        raise Cannot(f"'{(data if into is None else indices).name}' is not static")
    if into[:-1] != points[:-1]:
        raise Cannot(f"it scatters {list(points)} into a part of {list(into)}")
    if isinstance(updates, gs.Constant) and not np.isfinite(updates.values).all():
        raise Cannot(f"'{updates.name}' is not finite")
    return into[-1]


def require_distinct(indices: gs.Tensor, cells: int) -> None:
    """Raise Cannot unless no index comes twice along the last axis, and none is negative."""
    at = indices
    while not isinstance(at, gs.Constant):
        maker = at.inputs[0] if at.inputs else None
        if maker is None or maker.domain is not None:
            break
        if maker.op == "TopK":
            dims = rank(maker.inputs[0])
            if at is maker.outputs[1] and dims is not None and maker.attrs.get("axis", -1) % dims == dims - 1:
                return
            break
        if maker.op not in ("Expand", "Unsqueeze", "Identity", "Cast") or not _keeps_last(maker):
            break
        at = maker.inputs[0]
    if not isinstance(at, gs.Constant):
        raise Cannot(f"nothing says that the indices '{indices.name}' differ")
    if repeats(at.values, cells):
        raise Cannot(f"the indices '{at.name}' repeat")
    if (at.values < 0).any():
        raise Cannot(f"the indices '{at.name}' count from the end")


def _keeps_last(maker: gs.Node) -> bool:
    """Whether the last axis of the result is that of the input."""
    before, after = ir.static_shape(maker.inputs[0]), ir.static_shape(maker.outputs[0])
    if not before or not after or before[-1] != after[-1]:
        return False
    if maker.op != "Unsqueeze":
        return True
    axes = maker.attrs.get("axes", ints(optional(maker, 1)))
    return axes is not None and len(after) - 1 not in [a % len(after) for a in axes]


def _shared(indices: gs.Tensor) -> gs.Tensor | None:
    """The tensor of which `indices` is an Expand along axis -2 alone."""
    if len(indices.shape) < 2 or not indices.inputs or indices.inputs[0].op != "Expand" or indices.inputs[0].domain:
        return None
    one: gs.Tensor = indices.inputs[0].inputs[0]
    before, after = ir.static_shape(one), ir.static_shape(indices)
    if before is None or after is None or len(before) != len(after):
        return None
    alike = (before[:-2], before[-2], before[-1]) == (after[:-2], 1, after[-1])
    return one if alike else None
