"""Expand ScatterElements along the last axis into a product with one-hot rows; PointRend writes its points so.

    hot = Equal(indices[..., K, 1], [0 .. P-1])           one row per point, one column per cell of the last axis
    ScatterElements(data, indices, updates)  ->  Where(any row hot, updates @ hot, data)

If the same indices serve all of axis -2 (an Expand of one row, as in PointRend), the rows of that axis share `hot`.
Each cell of the product is one update times 1 plus zeros, so the result is exact for every finite update.

Cost: K * P numbers for `hot`, and K * P multiplications per row; `limit` bounds the former.

Must not fire: indices that are not known to differ, as those of a constant without duplicates or of a TopK along the
last axis do, also if moved and expanded along other axes (the sum of two updates would be neither of them); a
reduction; an axis other than the last; integers; constant updates that are not finite; sizes that are not static, or
that differ along axes other than the last; more than `limit` numbers.
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
from segc.passes.support.builder import Builder, RewriteNotApplicable, rewrite, standard, text, typed
from segc.passes.support.edit import ints, optional, rank


@dataclass(frozen=True)
class LegalizeScatterElements(Pass):
    """Expand ScatterElements of distinct indices along the last axis. limit: the most elements to compare."""

    name: ClassVar[str] = "legalize-scatter-elements"
    algebra: ClassVar[str] = "ScatterElements(data, i, u)  ->  Where(any hot, u @ hot, data) with hot = Equal(i, cells)"
    ensures: ClassVar[frozenset[str]] = frozenset({"no ScatterElements"})
    invalidates: ClassVar[frozenset[str]] = NODE_RULES | {PORTABLE}

    limit: int = 2**26

    def run(self, graph: gs.Graph) -> PassResult:
        """Rewrite each node where it stands."""
        return rewrite(graph, standard(graph, "ScatterElements"), partial(expand, self.limit), PassResult())


def has_duplicates(indices: np.ndarray, size: int) -> bool:
    """Whether two indices along the last axis name the same cell of `size`; negative ones count from the end."""
    rows = np.sort(np.where(indices < 0, indices + size, indices), axis=-1)
    return bool((rows[..., 1:] == rows[..., :-1]).any())


def expand(limit: int, b: Builder) -> gs.Tensor:
    """Build the nodes that replace one ScatterElements. Raises RewriteNotApplicable."""
    data, indices, updates = b.node.inputs
    typed(data, indices, updates)
    cells = _check_sizes(b)
    require_distinct(indices, cells)
    shared = _shared_row(indices)
    hot_shape = [*(ir.static_shape(shared or indices) or ()), cells]
    if math.prod(hot_shape) > limit:
        raise RewriteNotApplicable(f"it would compare {math.prod(hot_shape)} numbers, the limit is {limit}")
    dims = len(data.shape)
    if shared is None:
        one_hot = _one_hot(b, indices, cells)
        row = b.unsqueeze("row", updates, [dims - 1])
        scattered = b.squeeze("put", b.op("MatMul", "product", row, one_hot), [dims - 1])
        is_hit = b.reduce("ReduceMax", "hit", one_hot, [dims - 1], keepdims=False)
    else:
        one_hot = b.squeeze("hot", _one_hot(b, shared, cells), [dims - 2])
        scattered = b.op("MatMul", "product", updates, one_hot)
        is_hit = b.reduce("ReduceMax", "hit", one_hot, [dims - 2])
    return b.op("Where", "scattered", b.cast("any", is_hit, np.bool_), scattered, data)


def _one_hot(b: Builder, indices: gs.Tensor, cells: int) -> gs.Tensor:
    """[..., K, P] in the type of the data: 1 where an index names the cell, else 0."""
    columns = b.unsqueeze("column", indices, [len(indices.shape)])
    numbers = b.const("cells", np.arange(cells, dtype=indices.dtype))
    return b.cast("number", b.op("Equal", "equal", columns, numbers), b.node.inputs[0].dtype)


def _check_sizes(b: Builder) -> int:
    """The size of the last axis. Raises RewriteNotApplicable if the node cannot be expanded."""
    node = b.node
    data, indices, updates = node.inputs
    dims = len(data.shape)
    if text(node, "reduction", "none") != "none":
        raise RewriteNotApplicable(f"reduction is {text(node, 'reduction')}")
    if node.attrs.get("axis", 0) % dims != dims - 1:
        raise RewriteNotApplicable(f"it scatters along axis {node.attrs.get('axis', 0)}, not along the last")
    if np.dtype(data.dtype).kind != "f":
        raise RewriteNotApplicable(f"'{data.name}' is {np.dtype(data.dtype).name}")
    into, points = ir.static_shape(data), ir.static_shape(indices)
    if into is None or points is None:
        raise RewriteNotApplicable(f"'{(data if into is None else indices).name}' is not static")
    if into[:-1] != points[:-1]:
        raise RewriteNotApplicable(f"it scatters {list(points)} into a part of {list(into)}")
    if isinstance(updates, gs.Constant) and not np.isfinite(updates.values).all():
        raise RewriteNotApplicable(f"'{updates.name}' is not finite")
    return into[-1]


def require_distinct(indices: gs.Tensor, cells: int) -> None:
    """Raise RewriteNotApplicable unless all indices along the last axis are distinct and non-negative."""
    tensor = indices
    while not isinstance(tensor, gs.Constant):
        producer = tensor.inputs[0] if tensor.inputs else None
        if producer is None or producer.domain is not None:
            break
        if producer.op == "TopK":
            dims = rank(producer.inputs[0])
            if tensor is producer.outputs[1] and dims is not None and producer.attrs.get("axis", -1) % dims == dims - 1:
                return
            break
        if producer.op not in ("Expand", "Unsqueeze", "Identity", "Cast") or not _keeps_last(producer):
            break
        tensor = producer.inputs[0]
    if not isinstance(tensor, gs.Constant):
        raise RewriteNotApplicable(f"the indices '{indices.name}' are not known to differ")
    if has_duplicates(tensor.values, cells):
        raise RewriteNotApplicable(f"the indices '{tensor.name}' repeat")
    if (tensor.values < 0).any():
        raise RewriteNotApplicable(f"the indices '{tensor.name}' count from the end")


def _keeps_last(producer: gs.Node) -> bool:
    """Whether the node keeps the last axis of its input."""
    before, after = ir.static_shape(producer.inputs[0]), ir.static_shape(producer.outputs[0])
    if not before or not after or before[-1] != after[-1]:
        return False
    if producer.op != "Unsqueeze":
        return True
    axes = producer.attrs.get("axes", ints(optional(producer, 1)))
    return axes is not None and len(after) - 1 not in [a % len(after) for a in axes]


def _shared_row(indices: gs.Tensor) -> gs.Tensor | None:
    """The tensor that `indices` is an Expand of along axis -2 alone, otherwise None."""
    if len(indices.shape) < 2 or not indices.inputs or indices.inputs[0].op != "Expand" or indices.inputs[0].domain:
        return None
    row: gs.Tensor = indices.inputs[0].inputs[0]
    before, after = ir.static_shape(row), ir.static_shape(indices)
    if before is None or after is None or len(before) != len(after):
        return None
    only_repeated = (before[:-2], before[-2], before[-1]) == (after[:-2], 1, after[-1])
    return row if only_repeated else None
