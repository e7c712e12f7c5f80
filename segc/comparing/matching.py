"""Which inner tensors of two graphs belong together."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from segc.graph.source_info import origins

Array = np.ndarray
_KINDS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)


def matched(a: onnx.ModelProto, b: onnx.ModelProto) -> dict[str, str]:
    """Tensors of B -> those of A that belong to them, in B's order: of the same name, else the last of an origin.

    Passes rename and fuse: nodes that come from one line and module end in the same tensor before and after.
    """
    mine, theirs = floats(a), floats(b)
    found = {name: name for name in theirs if name in mine}
    ends = [_ends(model, names) for model, names in ((a, mine), (b, theirs))]
    taken = set(found)
    for origin, name in ends[1].items():
        other = ends[0].get(origin)
        if name not in found and other is not None and other not in taken:
            found[name] = other
    found |= _outputs(a, b)
    order = {name: at for at, name in enumerate(theirs)}
    return dict(sorted(found.items(), key=lambda pair: order.get(pair[0], len(order))))


def floats(model: onnx.ModelProto) -> dict[str, None]:
    """Names of inner float tensors, in order."""
    infos = (*model.graph.value_info, *model.graph.output)
    kinds = {info.name: info.type.tensor_type.elem_type for info in infos}
    written = [name for node in model.graph.node for name in node.output if name]
    return dict.fromkeys(name for name in written if kinds.get(name) in _KINDS)


def _ends(model: onnx.ModelProto, names: Mapping[str, None]) -> dict[tuple[str, str], str]:
    """The last tensor of each line and module."""
    found: dict[tuple[str, str], str] = {}
    for name, origin in origins(model).items():
        if name in names and (origin.source or origin.scope):
            found[origin.source, origin.scope] = name
    return found


def _outputs(a: onnx.ModelProto, b: onnx.ModelProto) -> dict[str, str]:
    """The outputs, where both are floats."""
    pairs = zip(b.graph.output, a.graph.output, strict=False)
    kinds = (onnx.TensorProto.FLOAT,)
    return {
        one.name: other.name
        for one, other in pairs
        if one.type.tensor_type.elem_type in kinds and other.type.tensor_type.elem_type in kinds
    }


def nudged(x: Array) -> Array:
    """Every float moved by its last bit, up or down."""
    if x.dtype.kind != "f":
        return x
    up = np.random.default_rng(0).integers(0, 2, x.shape).astype(bool)
    moved = np.where(up, np.nextafter(x, np.float32(np.inf)), np.nextafter(x, np.float32(-np.inf)))
    return np.asarray(moved, x.dtype)
