"""Whether the indices of a scatter name different cells, so that the order of its writes is free."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from segc.graph import ir
from segc.passes.support.builder import RewriteNotApplicable
from segc.passes.support.edit import ints, optional, rank


def has_duplicates(indices: np.ndarray, size: int) -> bool:
    """Whether two indices along the last axis name the same cell of `size`; negative ones count from the end."""
    rows = np.sort(np.where(indices < 0, indices + size, indices), axis=-1)
    return bool((rows[..., 1:] == rows[..., :-1]).any())


def require_distinct(indices: gs.Tensor, cells: int) -> None:
    """Raise RewriteNotApplicable unless all indices along the last axis are distinct and non-negative.

    cells: how many the last axis of the data has. Known to differ are constants and a TopK along the last axis, also
    moved and expanded along other axes.
    """
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
