"""Patch ONNX GraphSurgeon: links between nodes and tensors are removed by identity, and quickly; bfloat16 is a type.

GraphSurgeon finds the link to remove with `list.remove`, which scans from the front and compares nodes by value. This
is slow: each removal from a tensor with n users compares up to n nodes, with all attributes and names. It is also wrong
if two nodes are equal by value, as two new nodes without names and outputs are: it removes the link of the other node.

Passes walk a graph in order, and so remove the links of a tensor in order. The search therefore starts at the position
of the last removal and goes outwards in both directions.

GraphSurgeon gives tensors of bfloat16 ONNX's number in place of a type, which NumPy cannot interpret. `ml_dtypes`,
which onnx itself uses, has the type.
"""

from __future__ import annotations

from typing import Any

import onnx
import onnx.helper
from onnx_graphsurgeon.importers import onnx_importer
from onnx_graphsurgeon.util.misc import SynchronizedList


def position(links: list[Any], wanted: object, near: int) -> int:
    """The index of the object `wanted`, searched outwards from index `near`. Raises ValueError if it is absent."""
    after = min(max(near, 0), len(links))
    before = after - 1
    while before >= 0 or after < len(links):
        if after < len(links):
            if links[after] is wanted:
                return after
            after += 1
        if before >= 0:
            if links[before] is wanted:
                return before
            before -= 1
    raise ValueError("a tensor and a node disagree about the link between them")


def _remove_from_elem(self: Any, elem: Any) -> None:
    """Replaces the method of SynchronizedList: remove the link from `elem` back to the owner of this list."""
    links = getattr(elem, self.field_name)
    index = position(links, self.parent_obj, getattr(links, "segc_last_removed", 0))
    list.pop(links, index)
    links.segc_last_removed = index


_numpy_type = onnx_importer.get_numpy_type


def _with_bfloat16(onnx_type: Any) -> Any:
    """Replaces the importer's function: the NumPy type of a type of ONNX, None where there is none."""
    if isinstance(onnx_type, int) and onnx_type == onnx.TensorProto.BFLOAT16:
        return onnx.helper.tensor_dtype_to_np_dtype(onnx_type)
    return _numpy_type(onnx_type)


def install() -> None:
    """Patch all graphs of this process. Results differ only where GraphSurgeon would be wrong."""
    SynchronizedList._remove_from_elem = _remove_from_elem
    onnx_importer.get_numpy_type = _with_bfloat16
